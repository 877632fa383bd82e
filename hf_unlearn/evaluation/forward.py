"""A model's forward pass as the evaluation uses it: what it takes, what it returns, evaluation mode."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LABEL_COLUMNS = ("labels", "label", "label_ids")


@contextmanager
def evaluating(model: torch.nn.Module):
    """Eval mode for the block; every module is back in its own mode afterwards (a part may be frozen in eval mode)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def model_inputs(batch: Mapping[str, Any], named: set[str] | None, device: torch.device) -> dict[str, Any]:
    """
    What of a batch goes into the model: what its forward names, on its device, without labels. Rows that are padded
    on the left count their positions from their first token, else a row's loss would depend on its batch.
    """
    inputs = {
        key: value.to(device) if hasattr(value, "to") else value
        for key, value in batch.items()
        if key != "labels" and (named is None or key in named)
    }
    mask = inputs.get("attention_mask")
    counted = mask is None or "position_ids" in inputs or "position_ids" not in (named or ())
    if not counted and mask.dim() == 2 and not mask[:, 0].all():
        inputs["position_ids"] = (mask.long().cumsum(1) - 1).clamp_min(0)
    return inputs


def logits_of(output: Any, model: torch.nn.Module) -> torch.Tensor:
    """
    The logits in what a forward pass returned, (B, T, V) or (B, C).

    Raises:
        ValueError: where there are none, or they are those of an encoder-decoder.
    """
    logits = getattr(output, "logits", None)
    if logits is None:
        logits = output["logits"] if isinstance(output, Mapping) and "logits" in output else None
    if logits is None and isinstance(output, (tuple, list)) and output:
        logits = output[0]
    if logits is None:
        raise ValueError(f"`model` ({type(model).__name__}) returned no `logits`: load it with its task head.")
    if logits.dim() == 3 and getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ValueError(
            f"`model` ({type(model).__name__}) is an encoder-decoder: its logits are not shifted against the labels. "
            "Causal language models and classifiers can be measured."
        )
    return logits


def unsplit(model: torch.nn.Module) -> torch.nn.Module:
    """
    The model itself, of one that `torch.nn.DataParallel` shares out over devices: that would cut every argument in
    pieces, also those that are no rows (`logits_to_keep`).
    """
    return unsplit(model.module) if hasattr(model, "parallel_apply") else model


def signature_of(model: torch.nn.Module) -> tuple[torch.nn.Module, set[str] | None]:
    """The model inside wrappers (PEFT, compile, data parallel), and the argument names of its forward; None = any."""
    inner = model
    while True:
        if hasattr(inner, "get_base_model"):
            inside = inner.get_base_model()
        else:
            inside = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if inside is None or inside is inner or not hasattr(inside, "forward"):
            break
        inner = inside
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(inner.forward).parameters.values()
    return inner, {p.name for p in parameters if p.kind not in variadic} or None


def kept_columns(row: Mapping[str, Any], named: set[str] | None) -> dict[str, Any]:
    """The columns of a row that the forward names, and its labels."""
    return {key: value for key, value in row.items() if named is None or key in named or key in LABEL_COLUMNS}


def prompt_adapters(model: torch.nn.Module) -> list[str]:
    """Names of active adapters that are learnt prompts: they lengthen the input, and are no change of weights."""
    for module in (model, getattr(model, "_orig_mod", None), getattr(model, "module", None)):
        configs = getattr(module, "peft_config", None)
        if isinstance(configs, dict):
            active = getattr(module, "active_adapters", configs)
            active = active() if callable(active) else active
            return [f"{a} ({configs[a].peft_type.value})" for a in active if configs[a].is_prompt_learning]
    return []


Tell = Callable[[str, int, int], None]  # of a loop: what it does, passes that are done, of how many


def progress_bar(iterable: range, progress: bool | Tell, description: str = "evaluate") -> Iterable[int]:
    """The range itself, under a bar that appears after a second if `progress`; a function is told of each pass."""
    if not progress:
        return iterable
    if callable(progress):
        return _told(iterable, progress, description)
    from tqdm.auto import tqdm

    return tqdm(iterable, desc=description, unit="batch", delay=1, leave=False)


def _told(iterable: range, tell: Tell, description: str) -> Iterator[int]:
    for done, one in enumerate(iterable, 1):
        yield one
        tell(description, done, len(iterable))
