"""Says what requests cost, by every way that there is, with the guarantee of each, before anything runs.

    hf-unlearn plan --readiness outputs/people_llama/ready --ids p003-pet p003-job
    hf-unlearn plan --config recipes/text/people_llama.yaml
    hf-unlearn plan --config recipes/text/people_llama.yaml --ask 0.02

With --config alone: of the recipe's forget rows, from the model in OUTPUT_DIR/ready. With --ask, before a training:
what requests would cost by the tail and the slices of that training, so that they can be chosen. A row pass is a row's
forward and backward; minutes are by the training's own speed. Nothing is trained.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..options.replay import ReplayOptions
from ..utils.checks import ArgumentError, Wrong, raise_problems
from . import beside_recipe, checkpoints, checks, model, parsing, prepare, terminal
from . import request as of_words
from .arguments import TRAINS_NOTHING, DataArguments, ModelArguments, PlanArguments

if TYPE_CHECKING:
    from ..trainers.planning_ahead import TrainingChoices

READY = "ready"  # role of the model whose plan it is
OF_A_REQUEST = ("readiness", "ids", "ids_file", "salt_file", "snapshots")


def own_problems(own: PlanArguments, recipe: list[str]) -> list[str]:
    """What is wrong with the verb's own flags together."""
    problems = checks.empty_words(own) + picture_problems(own.picture)
    if own.ask is not None:
        given = [name for name in OF_A_REQUEST if getattr(own, name)]
        problems += [
            Wrong(name, "is of a request, and --ask is before the training. Give one of the two.") for name in given
        ]
        return problems if recipe else [*problems, "Give --config: --ask weighs the training of a recipe."]
    if own.ids and own.ids_file:
        problems.append(Wrong("ids_file", f"is {own.ids_file!r}, and --ids names rows, too. Give one of the two."))
    if own.ids_file and not Path(own.ids_file).is_file():
        problems.append(Wrong("ids_file", f"is {own.ids_file!r}, and there is no such file."))
    problems += checks.replay_problems(own.salt_file, own.snapshots)
    if not recipe and not own.readiness:
        problems.append("Give --readiness, the folder of a model, or --config, a recipe whose OUTPUT_DIR/ready is one.")
    elif not recipe and not (own.ids or own.ids_file):
        problems.append("Give --ids or --ids_file, or --config, a recipe that says which rows are to be forgotten.")
    return problems


def picture_problems(picture: str | None) -> list[str]:
    if picture is None:
        return []
    path = Path(picture)
    if path.suffix != ".svg":
        return [Wrong("picture", f"is {picture!r}; it is written as an .svg alone.")]
    if path.is_dir() or not path.absolute().parent.is_dir():
        return [Wrong("picture", f"is {picture!r}, and there is no folder to put it in, or one of that name.")]
    return []


def recipe_problems(own, data: DataArguments, model_args: ModelArguments, args=None) -> list[str]:
    """What is wrong with a recipe of which rows and output folder alone are read."""
    return checks.data_problems(data, model_args)


def training_problems(own, data: DataArguments, model_args: ModelArguments, args=None) -> list[str]:
    """What is wrong with a recipe whose training is weighed."""
    return checks.data_problems(data, model_args) + model.model_problems(data, model_args)


# ---- a request ------------------------------------------------------------------------------------------------------


def request(own: PlanArguments, words: list[str]) -> tuple[str, list[str]]:
    """`(readiness, ids)`: of the flags, and where these do not say it of the recipe."""
    listed = own.ids or (of_words.lines_of(own.ids_file, "ids_file") if own.ids_file else None)
    if own.readiness and listed is not None:
        if words:
            raise ArgumentError(["--readiness and --ids say all that is asked; the recipe is not read. Leave one out."])
        return own.readiness, listed
    _, data, _, args = parsing.parse(
        "unlearn", [*words, *TRAINS_NOTHING], recipe_problems, prepare.check_rows, asked="plan"
    )
    source = own.readiness or str(Path(args.output_dir, READY))
    if own.readiness is None and not checkpoints.is_checkpoint(Path(source)):
        raise ArgumentError(
            [
                f"There is no model in {source}. Train it first by the verb ready, name another by --readiness, or "
                f"weigh the training itself by --ask.{checkpoints.above(args.output_dir)}"
            ]
        )
    if listed is not None:
        return source, listed
    rows, parts = prepare.rows_by_split(data)
    terminal.say(of_words.told(prepare.request_of(data, rows, parts["forget"]), parts["forget"]))
    return source, list(parts["forget"]["id"])


# ---- before a training ----------------------------------------------------------------------------------------------


def ahead(ask: float, words: list[str]) -> tuple[TrainingChoices, list[str]]:
    """
    What requests would cost after the training of a recipe, and what to know of it, in sentences.

    Args:
        ask: requests a year of a group, the mean over groups.
    """
    import numpy as np

    from .. import plan_training
    from ..trainers.making_plans import groups_of

    said = parsing.word_of("ready", words, "readiness", ReplayOptions.readiness)
    is_replayable = ReplayOptions(readiness=said).is_replayable
    words = words if is_replayable else [*words, "--readiness", "replay"]  # what is to be weighed
    words = [*words, *TRAINS_NOTHING]
    _, data, model_args, args = parsing.parse("ready", words, training_problems, prepare.check_rows, asked="plan")
    parts = prepare.rows_by_split(data)[1]
    rows = parts["forget"]
    args.slice_by = slice_column(args.slice_by, data, rows)
    codes, weights, problems = groups_of(rows, np.arange(len(rows)), args.slice_by, args.ask_weight)
    raise_problems(problems)
    sizes = np.bincount(codes)
    likely = np.ones(len(sizes)) if weights is None else np.bincount(codes, weights) / sizes
    if not likely.any():
        raise ArgumentError([Wrong("ask_weight", f"is {args.ask_weight!r}, which is 0 in all revocable rows.")])
    notes = [] if is_replayable else ["This recipe trains otherwise; for this write `ready.readiness: replay`."]
    try:
        bare = model.without_weights(
            data, model_args, None if model_args.model_name_or_path else prepare.prepare(data, model_args)
        )
    except Exception as error:  # a model's own; its size is beside the point
        bare = None
        notes.append(
            f"What the snapshots take is not said, since the model cannot be made: {' '.join(str(error).split())}"
        )
    rates = ask * likely / likely.mean()
    found = plan_training(args, len(parts["retain"]), sizes.tolist(), rates, bare, data.task == "causal_lm")
    return found, [f"{len(rows)} revocable rows of {len(sizes)} groups, {len(parts['retain'])} stable ones.", *notes]


def slice_column(named: str | None, data: DataArguments, rows) -> str | None:
    """What the verb ready takes for `slice_by`, under its name in rows that are not encoded yet."""
    from ..data.label_lists import holds_lists

    by = [name for name in of_words.columns_of(data) if name not in rows.column_names or not holds_lists(rows, name)]
    column = named or (by[0] if len(by) == 1 and by[0] in rows.column_names else None)
    return data.label_column if column == "labels" and column not in rows.column_names else column


# ---- the verb -------------------------------------------------------------------------------------------------------


def first_line(argv: list[str]) -> str:
    """What is going to be done, from the words alone."""
    if not parsing.is_readable("plan", argv):
        return "hf-unlearn plan: reads the flags"
    if parsing.word_of("plan", argv, "ask", "", alone=True):
        return "hf-unlearn plan: weighs tails and slices of the training"
    out = parsing.word_of("plan", argv, "output_dir", "trainer_output")
    source = parsing.word_of("plan", argv, "readiness", str(Path(out, READY)), alone=True)
    return f"hf-unlearn plan: weighs the ways to take rows out of {source}"


def main(argv: list[str]) -> int:
    terminal.say(first_line(argv))
    own, words = beside_recipe.divided("plan", argv)
    raise_problems(own_problems(own, words))
    terminal.quiet_libraries()
    if own.ask is not None:
        found, notes = ahead(own.ask, words)
        content = {"choices": found.to_list(), "retraining": found.retraining}
        text = "\n".join([notes[0], "", str(found), *notes[1:]])
    else:
        from .. import plan

        source, ids = request(own, words)
        found = plan(source, ids, own.salt_file, own.snapshots)
        content = {"readiness": source, "rows": len(ids), "options": [asdict(option) for option in found]}
        text = f"To take {len(ids)} row{'' if len(ids) == 1 else 's'} out of {source}:\n\n{found}"
    sys.stdout.write((json.dumps(content, indent=2) if own.json else text) + "\n")
    if own.picture:
        from ..report import plan_pictures

        drawn = plan_pictures.choices_picture if own.ask is not None else plan_pictures.options_picture
        Path(own.picture).write_text(drawn(content["choices" if own.ask is not None else "options"]), encoding="utf-8")
    return 0
