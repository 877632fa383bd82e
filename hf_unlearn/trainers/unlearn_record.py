"""What a request leaves behind: `unlearning.json`, the snapshots in a checkpoint, and its part of the model card."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import TYPE_CHECKING

import torch

from ..report.words import model_card
from ..unlearning import schedule, stop_rule
from ..unlearning.ending import Ending
from ..unlearning.step import HingeGate
from ..utils.files import read_json
from ..utils.versions import library_versions
from . import records

if TYPE_CHECKING:
    from .unlearn import UnlearnTrainer

MASKS_FILE = "_saliency.pt"  # in a checkpoint: which weights may move
SNAPSHOTS_FILE = "_request_weights.pt"  # in a checkpoint; `push_to_hub` leaves out what begins with an underscore

LIMITS = (
    "Unlearning is approximate: it moves the rows' loss to a target (that of unseen rows). It is no proof of deletion.",
    "A mean loss can match while single rows stay recognisable; see the membership measures and the histograms.",
    "Fine-tuning on the removed rows, or on rows like them, can bring them back faster than training first did.",
)


def record(trainer: UnlearnTrainer) -> dict:
    """The content of `unlearning.json`, from which [`take_up`] resumes."""
    objective, steps, state = trainer.objective, trainer.steps, trainer.request_state
    return {
        "schema": records.SCHEMA,
        "method": objective.citation,
        "objective": objective.name,
        **objective.settings(),
        **trainer.args.resistance_parameters(),
        "learning_rate": trainer.args.learning_rate,
        "rule": dataclasses.asdict(trainer.rule),
        "rows": {
            "forget": len(trainer.forget_dataset),
            "retain": len(trainer.retain_dataset),
            "unseen": len(trainer.unseen_dataset),
        },
        "general": trainer.general.to_dict(),
        "was_ready": bool(trainer.readiness and trainer.readiness.get("ready")),
        "stop_reason": trainer.stop_reason,
        "weights_of_step": trainer.weights_of_step,
        "moved_at": trainer.looks.moved_at,
        records.GUARANTEE: guarantee(trainer.stop_reason, trainer.weights_of_step),
        "end": _json_ready(trainer.ending),
        **trainer.replay_record(),
        "cost": trainer.cost,
        "skipped": trainer.finite_guard.to_dict(),
        "state": None if state is None else state.to_dict(),
        **({"objective_state": objective.state()} if objective.moving else {}),
        "targets": _finite(trainer.targets or trainer.references),
        **({"references": trainer.before.digest} if trainer.before.digest else {}),
        **({"alternate_references": trainer.alternate_references} if trainer.alternate_references else {}),
        "window": [_finite(means.tolist()) for means in steps.window],
        "gate": steps.gate.to_dict(),
        "recovery_gate": steps.recovery_gate.to_dict(),
        "versions": library_versions(),
    }


def _json_ready(end: Ending | None) -> dict | None:
    """JSON has no NaN."""
    found = None if end is None else end.to_dict()
    return found and {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in found.items()}


def _finite(values: list[float]) -> list[float | None]:
    """JSON has no NaN."""
    return [x if math.isfinite(x) else None for x in values]


def _with_nan(values: list[float | None]) -> list[float]:
    return [math.nan if x is None else x for x in values]


def take_up(trainer: UnlearnTrainer, folder: str) -> bool:
    """Resumes the request from a checkpoint; returns False where the checkpoint holds no state of a request."""
    saved = read_json(os.path.join(folder, trainer.record_name))
    if not saved or not saved.get("state"):
        return False
    state = schedule.State(**saved["state"])
    longer = {stop_rule.MAX_STEPS: trainer.state.global_step < trainer.state.max_steps}
    longer[stop_rule.DONE] = trainer.forget_pass < trainer.rule.passes
    if longer.get(state.stop_reason):  # this run may take more steps or passes than the saved one
        state = dataclasses.replace(state, stop_reason=None)
    trainer.request_state = state
    if state.stop_reason in (*stop_rule.SPENT, stop_rule.REACHED):  # whose weights may be of an earlier step
        trainer.looks.restored_step = saved.get("weights_of_step")
    before = 1 if saved.get("weights_of_step", 1) else None  # as a version that did not write it had it
    trainer.looks.moved_at = saved.get("moved_at", before)
    trainer.objective = dataclasses.replace(trainer.objective, **saved.get("objective_state", {}))
    trainer.keep_row_values(_with_nan(saved["targets"]))
    trainer.before.begin(saved.get("references"))
    trainer.alternate_references = saved.get("alternate_references", [])
    steps = trainer.steps
    precise = any(p.dtype == torch.float64 for p in trainer.trainable)
    like = torch.zeros((), device=trainer.args.device, dtype=torch.float64 if precise else torch.float32)
    windows = [like.new_tensor(_with_nan(means)) for means in saved["window"]]
    steps.window = [means for means in windows if len(means) == 2 + steps.resisting]  # others: of other options
    steps.gate = HingeGate.from_dict(saved.get("gate"), like)
    steps.recovery_gate = HingeGate.from_dict(saved.get("recovery_gate"), like)
    trainer.resume_costs(saved)
    masks = os.path.join(folder, MASKS_FILE)
    if trainer.saliency.share is not None and os.path.exists(masks):
        trainer.saliency.masks = [mask.to(trainer.args.device) for mask in torch.load(masks, weights_only=True)]
    snapshots = os.path.join(folder, SNAPSHOTS_FILE)
    if os.path.exists(snapshots):
        trainer.looks.snapshots.load(torch.load(snapshots, weights_only=True))
    return True


def save_snapshots(trainer: UnlearnTrainer, folder: str) -> None:
    """
    Saves the snapshots beside a checkpoint; a resumed run needs them if it spends its budget, overshoots the target or
    loses it again. Where parameters are sharded none are saved: a resumed run takes the checkpoint's weights as good,
    and goes back to none that had reached the target before.
    """
    whole = not any(hasattr(p, "to_local") for p in trainer.trainable)
    if whole and trainer.args.should_save and trainer.saliency.masks:
        torch.save(trainer.saliency.masks, os.path.join(folder, MASKS_FILE))
    if whole and trainer.args.should_save and trainer.looks.snapshots is not None:
        torch.save(trainer.looks.snapshots.to_dict(), os.path.join(folder, SNAPSHOTS_FILE))


def card_info(trainer: UnlearnTrainer) -> dict:
    """The request's part of the model card."""
    found = record(trainer)
    state = found["state"] or {}
    asked = found["rows"]["forget"]
    return {
        "kind": card_kind(found),
        "rows": "1 row" if asked == 1 else f"{asked} rows",
        "settings": {records.GUARANTEE: found[records.GUARANTEE]}
        | {key: found[key] for key in ("method", "objective", "learning_rate", "was_ready")}
        | trainer.objective.settings()
        | trainer.args.resistance_parameters()
        | found["rows"]
        | found["rule"]
        | {key: state[key] for key in ("tau", "tau_initial") if key in state},
        "stop_reason": trainer.stop_reason,
        "limits": list(LIMITS),
    }


def guarantee(stop_reason: str | None, weights_of_step: int) -> str:
    """Of a request by steps: approximate where it ended with its target reached; else nothing is claimed."""
    ended = card_kind({"stop_reason": stop_reason, "weights_of_step": weights_of_step})
    return records.APPROXIMATE if ended == model_card.UNLEARNED else records.NOT_FORGOTTEN


def card_kind(found: dict) -> str:
    """What the model is, by the request's record: of the kinds of `report/words/model_card.py`."""
    if found["stop_reason"] is None:
        return model_card.UNFINISHED
    if found.get("weights_of_step") == 0:
        return model_card.NOT_UNLEARNED
    return model_card.UNLEARNED if found["stop_reason"] == stop_rule.REACHED else model_card.ENDED
