"""Whether [`UnlearnTrainer`] and the engine that it runs on provide what an objective asks for."""

from __future__ import annotations

from ..objectives.base import Objective
from ..objectives.surrogate import form_problems, is_linear
from .engines import accumulation_problem, several_backwards_problem

PROVIDED = {"needs": ("row_nll", "token_nll", "logits"), "reference": ("none", "loss", "logits")}


def unmet_needs(objective: Objective) -> list[str]:
    """What an objective asks for that [`UnlearnTrainer`] does not provide."""
    problems = [
        f"The objective {objective.name!r} asks for `{what}` {getattr(objective, what)!r}; `UnlearnTrainer` provides "
        f"{', '.join(map(repr, provided))}."
        for what, provided in PROVIDED.items()
        if getattr(objective, what) not in provided
    ]
    if objective.has("edit_weights"):
        problems.append(
            f"The objective {objective.name!r} edits the weights itself; `UnlearnTrainer` only takes steps on a loss."
        )
    return problems or form_problems(objective)


def engine_problems(args, accelerator, objective: Objective) -> list[str]:
    """Why the engine cannot run what the arguments ask for."""
    problem = None
    if args.gradient_accumulation_steps > 1 and not (objective.by_rows or is_linear(objective)):
        problem = accumulation_problem(accelerator)
    if args.forget_forward == "in_turn" and not problem:
        problem = several_backwards_problem(accelerator, '`forget_forward="in_turn"`')
    if args.resistance != "none" and not problem:
        problem = several_backwards_problem(accelerator, "`resistance`")
    return [problem] if problem else []
