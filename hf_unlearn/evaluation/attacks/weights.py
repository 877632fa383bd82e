"""
How far a model's weights are from those of another model, whole and by layer.

Of unlearned vision classifiers, Siddiqui et al. 2025 (arXiv:2505.22310) found that the L2 distance to the model before
unlearning predicts how well they withstand relearning: close by, what was forgotten comes back with a few steps on
retain rows. Differs from the paper: the distance is divided by the norm, and summed by layer, too.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from ..intervals import summary
from ..merged_weights import Merged, merged_parameters
from ..roles import BEFORE
from ..weights import listed, piece_on
from .base import Attack, Seen, Subject

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


def weight_distance(model: torch.nn.Module, other: torch.nn.Module) -> dict:
    """
    Relative L2 distance ‖θ - θ_o‖ / ‖θ_o‖ of the parameters of `model` to those of `other`, whole and by layer.

    Sums are in float64, tensor by tensor: no second copy of a model is made. The models may be on different devices
    and of different dtypes. Weights tied in both models count once. A PEFT model on either side is taken with its
    active LoRA adapters added to the base weights, not rounded to the base's dtype, and with its own copies of
    `modules_to_save`; nothing in it changes. Buffers are left out. Sharded models: every process must call this.

    Args:
        model: the model in question.
        other: the model it is compared with, of the same architecture.

    Returns:
        `{"whole": float, "layers": {name: float}}`. A layer is a parameter's name up to and including its first number
        (`model.layers.3`), outside of blocks the name of the parameter's module (`lm_head`); layers come in the order
        of the model. Where θ_o is all zero the distance is 0.0 for equal weights, else inf.

    Raises:
        ValueError: if names or shapes of the parameters differ, if a weight is not finite, not a floating-point
            number (a model loaded in 4 or 8 bits) or on the meta device, or if an adapter is of a kind that cannot be
            merged here (the first few are listed).
    """
    import torch

    ours, theirs = merged_parameters(model), merged_parameters(other)
    _check_same(ours, theirs)
    sums: dict[str, tuple[float, float]] = {}  # layer -> (‖θ - θ_o‖², ‖θ_o‖²)
    broken, seen = [], set()
    with torch.no_grad():
        for name, mine in ours.items():
            pair = (mine.key, theirs[name].key)
            if pair in seen:
                continue
            seen.add(pair)
            difference, norm = _squares(mine, theirs[name])
            if not math.isfinite(difference + norm):
                broken.append(name)
            layer = layer_of(name)
            before = sums.get(layer, (0.0, 0.0))
            sums[layer] = before[0] + difference, before[1] + norm
    if broken:
        raise FloatingPointError(f"weights are not finite in {listed(broken)}: a run that diverged has no distance.")
    whole = [math.fsum(column) for column in zip(*sums.values(), strict=True)]
    return {"whole": _ratio(*whole), "layers": {layer: _ratio(*both) for layer, both in sums.items()}}


def layer_of(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` -> `model.layers.3`, `lm_head.weight` -> `lm_head`."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return ".".join(parts[:-1]) or name


def _check_same(ours: dict[str, Merged], theirs: dict[str, Merged]) -> None:
    problems = []
    for names, which in ((ours.keys() - theirs.keys(), "model"), (theirs.keys() - ours.keys(), "other")):
        if names:
            problems.append(f"only `{which}` has {listed(sorted(names))}")
    shapes = [
        f"{name} {tuple(one.parameter.shape)} and {tuple(theirs[name].parameter.shape)}"
        for name, one in ours.items()
        if name in theirs and one.parameter.shape != theirs[name].parameter.shape
    ]
    if shapes:
        problems.append(f"shapes differ in {listed(shapes)}")
    if problems:
        raise ValueError(
            f"`model` and `other` have different parameters: {'; '.join(problems)}. Compare models of one architecture."
        )


def _squares(mine: Merged, theirs: Merged) -> tuple[float, float]:
    """(‖a - b‖², ‖b‖²) of two merged weights, piece by piece, on the first's device (CPU for one without float64)."""
    import torch

    ours, others = ([term.reshape(-1) for term in one.terms()] for one in (mine, theirs))
    device = ours[0].device if ours[0].device.type != "mps" else torch.device("cpu")
    difference = norm = torch.zeros((), dtype=torch.float64, device=device)
    piece = piece_on(device)
    for start in range(0, ours[0].numel(), piece):
        a, b = (
            sum(term[start : start + piece].to(device).to(torch.float64) for term in terms) for terms in (ours, others)
        )
        difference = difference + (a - b).square().sum()
        norm = norm + b.square().sum()
    return float(difference), float(norm)


def _ratio(difference: float, norm: float) -> float:
    if norm == 0:
        return 0.0 if difference == 0 else math.inf
    return math.sqrt(difference / norm)


def _run(subject: Subject) -> None:
    """Distances to the model before the request and to the retrained one, as details `weights`."""
    from ...readiness.packed_weights import is_packed

    before = next((name for name in BEFORE.get(subject.role, ()) if name in subject.models), None)
    others = {"to_original": before, "to_retrained": "retrained" if subject.role != "retrained" else None}
    if is_packed(subject.model):
        logger.warning("The weights of %r are packed: how far they have moved is not measured.", subject.role)
        return
    for name, other in others.items():
        if other in subject.models and not subject.has_tables_only(other):
            try:
                distance = weight_distance(subject.model, subject.load(other))
            except FloatingPointError as error:  # a run that diverged: the rest can still be measured
                subject.not_measured(f"weights_{name}", error)
            else:
                subject.seen.details.setdefault("weights", {})[name] = distance


def _measures(seen: Seen, retrained: Seen | None) -> dict[str, dict[str, Any]]:
    distances = seen.details.get("weights", {})
    return {f"weights_{name}": summary(one["whole"], None, len(one["layers"])) for name, one in distances.items()}


ATTACK = Attack("weights", "measure the distance to the original and to the retrained model", _run, _measures, turn=3)
