"""Says what a request would cost, by every way that there is, with the guarantee of each, before anything runs.

    hf-unlearn plan --readiness outputs/people_llama/ready --ids 17 18 19
    hf-unlearn plan --config recipes/text/people_llama.yaml

With --config alone: the forget rows of the recipe, and the model in OUTPUT_DIR/ready. Row passes are a row's forward
and backward; minutes are by the training's own speed. Exit status 0; nothing is loaded, trained or written.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from ..utils.checks import ArgumentError, Wrong, raise_problems
from . import beside_recipe, checkpoints, checks, parsing, prepare, terminal
from .arguments import DataArguments, ModelArguments, PlanArguments

READY = "ready"  # role of the model whose plan it is


def own_problems(own: PlanArguments, recipe: list[str]) -> list[str]:
    """What is wrong with the verb's own flags together."""
    problems = checks.empty_words(own)
    if own.ids and own.ids_file:
        problems.append(Wrong("ids_file", f"is {own.ids_file!r}, and --ids names rows, too. Give one of the two."))
    if own.ids_file and not Path(own.ids_file).is_file():
        problems.append(Wrong("ids_file", f"is {own.ids_file!r}, and there is no such file."))
    for name, what in (("salt_file", Path.is_file), ("snapshots", Path.is_dir)):
        if (value := getattr(own, name)) and not what(Path(value)):
            problems.append(Wrong(name, f"is {value!r}, and there is no such {what.__name__.removeprefix('is_')}."))
    if not recipe and not own.readiness:
        problems.append("Give --readiness, the folder of a model, or --config, a recipe whose OUTPUT_DIR/ready is one.")
    elif not recipe and not (own.ids or own.ids_file):
        problems.append("Give --ids or --ids_file, or --config, a recipe that says which rows are to be forgotten.")
    return problems + picture_problems(own.picture)


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


def request(own: PlanArguments, words: list[str]) -> tuple[str, list[str]]:
    """`(readiness, ids)`: of the flags, and where these do not say it of the recipe."""
    listed = own.ids or (lines_of(own.ids_file) if own.ids_file else None)
    if own.readiness and listed is not None:
        if words:
            raise ArgumentError(["--readiness and --ids say all that is asked; the recipe is not read. Leave one out."])
        return own.readiness, listed
    _, data, _, args = parsing.parse("unlearn", words, recipe_problems, prepare.check_rows, asked="plan")
    source = own.readiness or str(Path(args.output_dir, READY))
    if own.readiness is None and not checkpoints.is_checkpoint(Path(source)):
        raise ArgumentError(
            [
                f"There is no model in {source}. Train it first by the verb ready, or name another by --readiness."
                f"{checkpoints.above(args.output_dir)}"
            ]
        )
    return source, list(prepare.rows_by_split(data)[1]["forget"]["id"]) if listed is None else listed


def lines_of(path: str) -> list[str]:
    """Ids of a file, one a line."""
    return [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def first_line(argv: list[str]) -> str:
    """What is going to be done, from the words alone."""
    out = parsing.word_of("plan", argv, "output_dir", "trainer_output")
    source = parsing.word_of("plan", argv, "readiness", str(Path(out, READY)), alone=True)
    if not parsing.is_readable("plan", argv):
        return "hf-unlearn plan: reads the flags"
    return f"hf-unlearn plan: weighs the ways to take rows out of {source}"


def main(argv: list[str]) -> int:
    terminal.say(first_line(argv))
    own, words = beside_recipe.divided("plan", argv)
    raise_problems(own_problems(own, words))
    terminal.quiet_libraries()
    from .. import plan

    source, ids = request(own, words)
    found = plan(source, ids, own.salt_file, own.snapshots)
    if own.json:
        content = {"readiness": source, "rows": len(ids), "options": [asdict(option) for option in found]}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        sys.stdout.write(f"To take {len(ids)} row{'' if len(ids) == 1 else 's'} out of {source}:\n\n{found}\n")
    if own.picture:
        from ..report.plan_pictures import options_picture

        Path(own.picture).write_text(options_picture([asdict(option) for option in found]), encoding="utf-8")
    return 0
