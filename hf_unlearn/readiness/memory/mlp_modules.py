"""Where the MLPs of a model are, by the type in its config."""

from __future__ import annotations

import re

SPREAD = 6  # layers that get a memory where none are named
_LAYERS = r"(?:.*\.)?layers\.(\d+)\.mlp"
PATTERNS = {  # model_type -> pattern of the names of its MLPs; the group is the layer's number
    **dict.fromkeys(("llama", "mistral", "smollm3", "phi", "phi3", "olmo", "olmo2", "stablelm", "starcoder2"), _LAYERS),
    **dict.fromkeys(("qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt_neox"), _LAYERS),
    "gpt2": r"(?:.*\.)?h\.(\d+)\.mlp",
    "vit": _LAYERS,
    # BERT's MLP is no module of its own: what goes into its second half is read, and what comes out is added to.
    "bert": r"(?:.*\.)?encoder\.layer\.(\d+)\.output\.dense",
}


def mlps(names: list[str], model_type: str | None, pattern: str | None = None) -> dict[int, str]:
    """
    Names of the MLPs by the number of their layer.

    Args:
        names: of all modules of a model.
        model_type: of its config.
        pattern: regular expression that matches these names whole, with one group for the layer's number; None: by the
            type.

    Raises:
        ValueError: if the type is not known, or if no module is called so, or two of one layer are.
    """
    pattern = pattern or PATTERNS.get(model_type)
    if pattern is None:
        raise ValueError(
            f"Where the MLPs of a model of type {model_type!r} are is not known; known types: {', '.join(PATTERNS)}. "
            "Say it by `mlp_modules`, a regular expression for their names with one group for the layer's number, such "
            r"as '(?:.*\.)?layers\.(\d+)\.mlp'."
        )
    try:
        matched = [(int(match[1]), name) for name in names if (match := re.fullmatch(pattern, name))]
    except (re.error, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"`mlp_modules` is {pattern!r}; it must be a regular expression with one group for the layer's number "
            f"({error})."
        ) from error
    found = dict(matched)
    if twice := [name for number, name in matched if found[number] != name]:
        raise ValueError(
            f"{pattern!r} is of two modules of one layer, such as those of what sees pictures and of what writes: "
            f"{twice[0]} and {found[int(re.fullmatch(pattern, twice[0])[1])]}. Say which by `mlp_modules`."
        )
    if not found:
        raise ValueError(f"No module of the model is called {pattern!r}. Say where its MLPs are by `mlp_modules`.")
    return dict(sorted(found.items()))


def chosen_layers(wanted: list[int] | None, there: dict[int, str]) -> list[int]:
    """
    The layers that get a memory: those that are wanted, negative ones from the end; None: at most six, spread evenly
    from a sixth of the depth on, where names are told apart best.

    Raises:
        ValueError: if one of them is not there.
    """
    numbers = sorted(there)
    if wanted is None:
        first, count = len(numbers) // 6, min(SPREAD, len(numbers))
        return sorted({numbers[first + (len(numbers) - first) * i // count] for i in range(count)})
    try:
        return sorted({numbers[layer] if layer < 0 else numbers[numbers.index(layer)] for layer in wanted})
    except (IndexError, ValueError) as error:
        raise ValueError(f"`layers` is {wanted}; the model has layers {numbers[0]} to {numbers[-1]}.") from error
