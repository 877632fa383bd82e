"""Versions of the libraries a result depends on, without importing them."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "datasets", "numpy", "scipy", "scikit-learn")


@functools.cache  # metadata are parsed anew at each call, four milliseconds a library
def _installed() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def library_versions() -> dict[str, str]:
    """Name -> version of hf_unlearn and of those of LIBRARIES that are installed."""
    from .. import __version__

    return {"hf_unlearn": __version__, **_installed()}
