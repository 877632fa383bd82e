"""The measures as metrics of the library `evaluate`, from a path, without network: the measure is the config."""

from pathlib import Path


def metrics_path() -> str:
    """
    Path of the script that `evaluate.load` takes, with the name of a measure: `evaluate.load(metrics_path(), "loss")`.
    """
    return str(Path(__file__).with_name("unlearning.py"))
