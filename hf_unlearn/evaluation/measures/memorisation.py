"""How much of each row comes by itself: formulas of the columns (N,) of a table, with a value for each row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def exact_memorisation(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Share of the row's labelled positions whose argmax is the label. Source: Tirumala et al. 2022."""
    return columns["n_correct"] / columns["n_labels"]


def exact_match(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether every labelled position of the row is right: recalled word for word, given the right answer so far."""
    return exact_memorisation(columns) == 1


def extraction_strength(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """
    1 - k/T: the k first of the row's T labels must be given so that all others come by argmax; 0 when nothing does.
    Source: Carlini et al. 2021, arXiv:2012.07805. It is `n_suffix / n_labels`, the share of right labels at the end.
    """
    return columns["n_suffix"] / columns["n_labels"]
