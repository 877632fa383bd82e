"""Embedded rows: handwritten digits."""

from __future__ import annotations


def digits():
    """Scikit-learn's 1,797 handwritten digits (real scans, 8x8, from the UCI repository), embedded in scikit-learn.

    Returns:
        `datasets.Dataset` with `id` (str, "digit-0017"), `image` (8 rows of 8 pixels, uint8, 0..255) and `label`
        (ClassLabel, 10).
    """
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, List, Value
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)  # the scans count dark pixels in 4x4 blocks: 0..16
    features = Features(
        {
            "id": Value("string"),
            "image": List(List(Value("uint8"))),
            "label": ClassLabel(names=[str(name) for name in raw.target_names]),
        }
    )
    return Dataset.from_dict(
        {"id": [f"digit-{i:04d}" for i in range(len(images))], "image": images.tolist(), "label": raw.target.tolist()},
        features=features,
    )
