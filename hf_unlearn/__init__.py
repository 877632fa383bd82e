"""hf_unlearn: train models ready for deletion, unlearn rows when asked, and measure what was forgotten and kept.

Public names are loaded on first use; importing the package does not import torch.
"""

from .utils.lazy import lazily

__version__ = "0.1.0"

_HOMES = {
    "ReadyTrainer": "trainers.ready",
    "UnlearnTrainer": "trainers.unlearn",
    "ReadyConfig": "config",
    "UnlearnConfig": "config",
    "ArgumentError": "utils.checks",
    "NonFiniteError": "trainers.callbacks",
    "split": "data.split",
    "find_duplicates": "data.duplicates",
    "default_collator": "data.collate",
    "commitment": "utils.records",
    "evaluate": "evaluation.scoring",
    "collect": "evaluation.collection",
    "Scorecard": "evaluation.scorecard",
    "metrics_path": "metrics",
    "get_objective": "objectives.registry",
    "OBJECTIVES": "objectives.registry",
    "per_row_nll": "objectives.row_nll",
}

__all__ = ["__version__", *_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)
