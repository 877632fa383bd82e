"""What was measured of a model, as results in the header of its card (`model-index`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..evaluation import catalogue
from .card_file import OURS, is_hub_id

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# Of the measures of rows, those that are results; the others are in the card's table.
KINDS = ("loss", "accuracy", "token_accuracy", "exact_match", "extraction_strength", "rougeL_recall", "truth_ratio")
SPLITS = ("forget", "retain", "unseen", "test", "real_authors", "world_facts")  # whose measures are results
HUB_METRICS = {"rougeL_recall": "rouge"}  # our name of a measure -> the hub's, where it is another
NOT_NAMED = "not named"  # the data set, where nobody said which


def named_rows(name: str | None) -> dict[str, str | None]:
    """`name` of a data set, and its `id` where the name is that of a user's or an organisation's on the hub."""
    return {"name": name, "id": name if name and "/" in name and is_hub_id(name) else None}


def results_of(run: Mapping[str, Any], task: str, dataset: Mapping[str, Any] | None) -> list[EvalResult]:
    """
    The measured values of one run: losses and right answers on each kind of rows, membership AUCs, and what compares
    with a retrained model; without those that the catalogue calls weak, and those that are not finite.

    Args:
        run: of a score card, as a dict.
        task: the model's pipeline tag, such as "text-generation".
        dataset: `{"name", "id"}` of the rows; `id` where they are on the hub.
    """
    from huggingface_hub import EvalResult

    dataset = dataset or {}
    known = dataset["id"] if is_hub_id(dataset.get("id")) else None
    name = " ".join(str(known or dataset.get("name") or NOT_NAMED).split())
    kind = "causal_lm" if any(key.endswith("_token_accuracy") for key in run["measures"]) else "classifier"
    found = []
    for key, measure in run["measures"].items():
        entry = catalogue.find(key)
        if entry is None or (measure or {}).get("value") is None or catalogue.is_weak(key, kind):
            continue
        if (split := _split_of(key, entry)) is None:
            continue
        more = {k: _rounded(measure[k]) for k in ("low", "high", "n") if measure.get(k) is not None}
        metric = entry.measure.kind if entry.measure.section == catalogue.SPLIT else key
        found.append(
            EvalResult(
                task_type=task,
                dataset_type=known or re.sub(r"[^\w.-]+", "-", name).strip("-"),
                dataset_name=name,
                dataset_split=split or None,
                metric_type=HUB_METRICS.get(metric, metric),
                metric_value=_rounded(measure["value"]),
                metric_name=f"Membership, {_low(entry.title)}" if _is_membership(entry) else entry.title,
                metric_config=OURS,
                metric_args=more or None,
            )
        )
    splits = list(dict.fromkeys(one.dataset_split for one in found))
    return sorted(found, key=lambda one: splits.index(one.dataset_split))  # as a header groups them


def _is_membership(entry: catalogue.Entry) -> bool:
    return entry.measure.section == catalogue.MEMBERSHIP


def _low(text: str) -> str:
    return f"{text[0].lower()}{text[1:]}"


def _split_of(key: str, entry: catalogue.Entry) -> str | None:
    """The split that a result is of, "" for the whole model; None: it is not among the results."""
    section = entry.measure.section
    if section == catalogue.SPLIT:
        return entry.place if entry.place in SPLITS and entry.measure.kind in KINDS else None
    if _is_membership(entry):
        return "forget" if key.endswith("_auc") else None
    if section in (catalogue.AGAINST, catalogue.RECOVERY):
        return "forget" if key == "forget_quality" or section == catalogue.RECOVERY else None
    return "" if section == catalogue.MODEL else None


def _rounded(value: float) -> float | int:
    return value if isinstance(value, int) else float(f"{value:.6g}")
