"""Whether [`UnlearnTrainer`] and the engine that it runs on provide what an objective asks for."""

from __future__ import annotations

from ..data.limits import input_embeddings
from ..objectives.base import Objective
from ..objectives.surrogate import form_problems, is_linear
from ..utils.checks import Wrong
from .engines import accumulation_problem, keeps_shards, several_backwards_problem
from .forwards import layers_of
from .models import base_model

OF_STEPS = (  # nothing that an edit reads
    *("learning_rate", "optim", "max_steps", "passes", "saliency", "lr_scheduler_type", "warmup_steps", "weight_decay"),
    "max_grad_norm",
)


def unmet_needs(objective: Objective, args, optimizers=None, peft_config=None) -> list[str]:
    """
    What an objective asks for that [`UnlearnTrainer`] does not provide, and arguments that nothing would read.

    Args:
        optimizers: as in `transformers.Trainer`; peft_config: of a new adapter.
    """
    problems = form_problems(objective)
    if objective.edits:
        why = f"the objective `{objective.name}` edits the weights once, and takes no steps. Leave it out."
        problems += [Wrong(name, f"is set, but {why}") for name in OF_STEPS if name in args.given]
        if args.resistance != "none":
            problems.append(Wrong("resistance", f"is set, but {why}"))
        if any(one is not None for one in optimizers or ()):
            problems.append(Wrong("optimizers", f"was passed, but {why}"))
        if peft_config is not None:
            said = f"was passed, but the objective `{objective.name}` edits weights that have learnt the rows, and a "
            problems.append(Wrong("peft_config", f"{said}new adapter has learnt nothing. Leave it out."))
    kinds = (objective.reference, objective.retain_reference)
    if args.references and not {"logits", "hidden_states"} & set(kinds):
        said = f"is set, but the objective `{objective.name}` reads no table of what was before. Leave it out."
        problems.append(Wrong("references", said))
    own = getattr((optimizers or (None,))[0], "param_groups", ())
    decay = max([args.weight_decay, *(group.get("weight_decay") or 0.0 for group in own)])
    if args.saliency is not None and decay:
        name, of = ("weight_decay", "") if args.weight_decay else ("optimizers", "of a weight decay of ")
        said = f"is {of}{decay}, which moves all weights, and `saliency` leaves most alone. Leave one of them out."
        problems.append(Wrong(name, said))
    if objective.needs == "hidden_states":
        why = f"the forward of the objective `{objective.name}` stops at a layer. Leave it out."
        for name in ("gradient_checkpointing", "torch_compile"):
            if getattr(args, name):
                problems.append(Wrong(name, f"is on, but {why}"))
    return problems


def engine_problems(args, accelerator, objective: Objective, model) -> list[str]:
    """Why the engine or the model cannot run what the arguments ask for."""
    problem = None
    if args.gradient_accumulation_steps > 1 and not (objective.by_rows or is_linear(objective)):
        problem = accumulation_problem(accelerator)
    if args.forget_forward == "in_turn" and not problem:
        problem = several_backwards_problem(accelerator, '`forget_forward="in_turn"`')
    if args.resistance != "none" and not problem:
        problem = several_backwards_problem(accelerator, "`resistance`")
    if args.saliency is not None and not problem:
        problem = several_backwards_problem(accelerator, "`saliency`")
    if (objective.needs == "hidden_states" or objective.edits) and keeps_shards(accelerator) and not problem:
        problem = f"The objective `{objective.name}` does not run on weights in shards. Use one device a model, or DDP."
    return [problem] if problem else layer_problems(model, objective)


def layer_problems(model, objective: Objective) -> list[str]:
    """What is wrong with the layer that an objective names, or with what is trained up to it."""
    if objective.needs != "hidden_states":
        return []
    found = layers_of(model)
    if found is None:
        said = f'is "{objective.name}", which leads a layer away; the model has no list of like layers.'
        return [Wrong("objective", f"{said} Choose another objective.")]
    name, layers = found
    layer = objective.hidden_layer(len(layers))
    if layer >= len(layers):
        return [
            Wrong("rmu_layer", f"is {layer}, but the model has {len(layers)} layers: choose 0 to {len(layers) - 1}.")
        ]
    base = base_model(model)
    reached = {id(p) for one in layers[: layer + 1] for p in one.parameters()}
    if (embeddings := input_embeddings(base)) is not None:
        reached |= {id(p) for p in embeddings.parameters()}
    if hasattr(model, "prompt_encoder"):  # of PEFT: learnt prompts, which stand before the first layer
        reached |= {id(p) for p in model.prompt_encoder.parameters()}
    if any(p.requires_grad and id(p) in reached for p in model.parameters()):
        return []
    said = f"is layer {layer}, and no trainable weight lies in it or before it: the adapter leaves it untouched."
    return [Wrong("rmu_layer", f"{said} Choose a later layer, or an adapter of the first {layer + 1} layers.")]
