"""hf_unlearn: train models ready for deletion, unlearn rows when asked, and measure what was forgotten and kept.

Public names are loaded on first use; importing the package does not import torch.
"""

from ._lazy import lazily

__version__ = "0.1.0"

_HOMES = {
    "ReadyTrainer": "ready_trainer",
    "UnlearnTrainer": "unlearn_trainer",
    "ReadyConfig": "config",
    "UnlearnConfig": "config",
    "ArgumentError": "options",
    "NonFiniteError": "callbacks",
    "split": "data",
    "find_duplicates": "data",
    "default_collator": "data",
    "commitment": "records",
    "evaluate": "evaluation",
    "collect": "evaluation",
    "Scorecard": "evaluation",
    "metrics_path": "metrics",
    "get_objective": "objectives",
    "OBJECTIVES": "objectives",
    "per_row_nll": "objectives",
}

__all__ = ["__version__", *_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)
