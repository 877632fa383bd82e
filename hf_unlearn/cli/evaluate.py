"""Measures models on the same rows and attacks them: scorecard.json, rows.parquet, generations.parquet, report.html.

    hf-unlearn evaluate --config my.yaml
    hf-unlearn evaluate --config my.yaml --models original=org/model unlearned=./mine retrained=./again
    hf-unlearn evaluate --models unlearned=./mine --benchmarks muse=./muse wmdp=wmdp-bio.json
    accelerate launch recipes/evaluate.py --config recipes/text/people_llama.yaml --fail_on verdict recovery

Takes the models in OUTPUT_DIR by role, or any checkpoints by `--models`, whoever made them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..utils.checks import ArgumentError, Wrong, gather, problems_of
from ..utils.salts import salt_problems
from . import (
    attack_checks,
    benchmarks,
    checkpoints,
    checks,
    general_texts,
    model,
    parsing,
    prepare,
    running,
    saved_runs,
    terminal,
)
from .arguments import ROLES, DataArguments, EvaluateArguments, ModelArguments
from .loading import code_problems, init_of
from .request import by_class, told
from .terminal import NoProgress, Progress, Step

logger = logging.getLogger(__name__)

MOST_RETAIN_ROWS = 2000  # retain rows measured: evenly spaced, enough for intervals of a percent
MEASURING, SHADOW = 0.2, 1.2  # how long a model takes to be measured, and a shadow to be made, in plain trainings
LESS = {"original": 0.5, "ready": 0.3}  # share of it, for roles with fewer attacks
FAILED = 3  # exit status where a gate of --fail_on is not passed


def models_in(output_dir) -> dict[str, str]:
    """Folders of the models in `output_dir`, by role."""
    folders = {role: Path(output_dir, role) for role in ROLES}
    return {role: str(folder) for role, folder in folders.items() if checkpoints.is_checkpoint(folder)}


def pairs(words: list[str] | None, flag: str) -> tuple[dict[str, str], list[str]]:
    """ROLE=WHERE words as a dict, and what is wrong with them."""
    found, problems = {}, []
    for word in words or []:
        role, equals, where = word.partition("=")
        if not (equals and where) or role not in ROLES:
            problems.append(f"`--{flag}` takes ROLE=WHERE, ROLE one of {', '.join(ROLES)}; got {word!r}.")
            continue
        here = Path(where).expanduser()
        if role in found:
            problems.append(f"`--{flag}` gives {role} twice: {found[role]} and {where}. Give one model for a role.")
        found[role] = str(here) if here.is_dir() else where
    return found, problems


def measured_models(own: EvaluateArguments) -> dict[str, str]:
    """Folders or hub ids of the models to load, by role: those named, or those in OUTPUT_DIR that have no table."""
    models, tables = pairs(own.models, "models")[0], pairs(own.tables, "tables")[0]
    if own.models:
        return models
    return {role: where for role, where in models_in(own.output_dir).items() if role not in tables}


def flag_problems(own: EvaluateArguments, data: DataArguments, model_args: ModelArguments) -> list[str]:
    """What is wrong with the flags, before a row is read: the places of models and tables among it."""
    from ..evaluation import attack_names
    from ..evaluation.gate_rules import gate_names

    (models, problems), (tables, more) = pairs(own.models, "models"), pairs(own.tables, "tables")
    in_folder = {role: where for role, where in measured_models(own).items() if role not in models}
    problems += more + checks.data_problems(data, model_args)
    problems += model.model_problems(data, model_args, needs_one=False) + checks.folder_problems(own.output_dir)
    problems += checks.result_problems(own.output_dir) + checks.empty_words(own)
    problems += salt_problems(own.output_dir)
    given, trusted = {*models, *in_folder, *tables}, model_args.trust_remote_code
    if model_args.revision and model_args.said_alone("revision") and not checks.is_told("revision", problems):
        said = f"is {model_args.revision!r}, and all models are measured as they are now. Download that one "
        said += "(`hf download NAME --revision …`), and name its folder in --models."
        problems.append(Wrong("revision", said))
    if not given and not own.models:
        roles = ", ".join(ROLES)
        problems.append(
            f"There is no model in {own.output_dir}; expected one of {roles} as a folder, or --models."
            f"{checkpoints.above(own.output_dir)}"
        )
    asked = (("attacks", own.attacks, ("none", *attack_names())), ("fail_on", own.fail_on, gate_names()))
    for flag, words, known in asked:
        if unknown := [word for word in words or [] if word not in known]:
            problems.append(f"`--{flag}` is {', '.join(unknown)}; expected some of {', '.join(known)}.")
    if "none" in own.attacks and len(own.attacks) > 1:
        problems.append(f"`--attacks` is {', '.join(own.attacks)}: `none` stands alone.")
    if own.shadows and (own.shadows < 4 or own.shadows % 2):
        problems.append(f"`--shadows` is {own.shadows}; expected 0 or an even number from 4.")
    if twice := sorted(set(models) & set(tables)):
        problems.append(f"`--models` and `--tables` both give {', '.join(twice)}: give one.")
    for flag, value in (("shadows", own.shadows), ("fail_on", own.fail_on)):
        if value and not {"unlearned", "ready_unlearned"} & given:
            problems.append(f"`--{flag}` needs a model of role unlearned or ready_unlearned.")
    if own.fail_on and {"unlearned", "ready_unlearned"} & given:
        problems += attack_checks.gate_problems(own, data, set(given), set(tables))
    for role, where in models.items():
        problems += checkpoints.place_problems("models", where, f"{role}=") or code_problems("models", where, trusted)
    for role, where in in_folder.items():
        broken = checkpoints.place_problems("output_dir", where) or code_problems("output_dir", where, trusted)
        problems += broken or checkpoints.other_model_problems(model_args, role, Path(where))
    for role, where in tables.items():
        if not Path(where).is_dir():
            problems.append(Wrong("tables", f"is {role + '=' + where!r}, but there is no such folder."))
        elif not any(Path(where).glob("*.parquet")):
            said = f"is {role + '=' + where!r}, which holds no SPLIT.parquet: give OUTPUT_DIR/tables/ROLE."
            problems.append(Wrong("tables", said))
    problems += general_texts.problems(own, data, {**models, **in_folder})
    return problems + attack_checks.attack_problems(own) + benchmarks.problems(own, data)


def prepared_rows(
    own: EvaluateArguments, data: DataArguments, model_args: ModelArguments, tell=None
) -> prepare.Prepared:
    """
    The rows, ready to be measured; `tell` as of [`hf_unlearn.cli.prepare.prepare`].

    Raises:
        ArgumentError: with all problems of the rows, and if a checkpoint brings no tokenizer or another one than the
            others, or is of another kind than the task.
    """
    models = measured_models(own)
    brought = checkpoints.processing_of(own.processing_from, models, data, model_args)
    processing_from = brought or model_args.model_name_or_path
    prepared = prepare.prepare(data, model_args, processing_from, tell=tell, trained=models.values())
    for where in models.values():
        prepared = replace(prepared, splits=checkpoints.by_plan(prepared.splits, where))
    check = partial(checkpoints.check_checkpoint, data, prepared.labels, model=model_args)
    gather(*(partial(check, *one) for one in models.items()))
    gather(*(partial(checkpoints.same_tokens, data, prepared, *one, model_args) for one in models.items()))
    if data.limit is None:  # a trial claims nothing
        gather(*(partial(saved_runs.check_known_rows, prepared, *one) for one in models.items()))
    return prepared


def of_classes_that_stay(splits: dict):
    """
    The test rows without those of a class that forget rows have and no retain row has: it is to go, so what a model
    knows of it is nothing that it should have kept. Of several labels a row, and of texts, all.
    """
    test, features = splits["test"], splits["test"].features
    if not hasattr(features.get("labels"), "names"):
        return test
    gone = set(splits["forget"]["labels"]) - set(splits["retain"]["labels"])
    stays = [i for i, label in enumerate(test["labels"]) if label not in gone]
    return test.select(stays) if 0 < len(stays) < len(test) else test


def splits_of(data: DataArguments, prepared: prepare.Prepared) -> dict:
    """
    The splits to measure: not all retain rows, no test rows of classes that are to go, and other answers and questions
    where there are any.
    """
    from ..evaluation import evenly
    from . import other_words

    if not prepared.splits:  # benchmarks alone
        return {}
    splits = {**prepared.splits, **prepared.beside}
    if "test" in splits:
        splits["test"] = of_classes_that_stay(splits)
    splits["retain"] = evenly(splits["retain"], MOST_RETAIN_ROWS)
    if data.task == "causal_lm" and set(prepare.said_by(data, splits["forget"])) == {"question", "answer"}:
        splits |= other_words.extra_splits(splits, data.dataset_name, data.data_files, prepared.again)
    return splits


def measure(
    output_dir,
    data,
    prepared: prepare.Prepared,
    *,
    task: str,
    models: dict[str, str],
    tables: dict[str, str] | None = None,
    attacks: Iterable[str] | None = None,
    attack_options: dict[str, dict] | None = None,
    tests: dict[str, str | list[str]] | None = None,
    test_options: dict[str, dict] | None = None,
    batch_size: int = 64,
    max_rows: int = 10_000,
    seed: int = 0,
    provenance: dict | None = None,
    progress: Progress | None = None,
    init: dict | None = None,
    bf16: bool = False,
):
    """
    The `Scorecard` of the models; row tables go to `output_dir`/tables.

    Args:
        models: role -> folder or hub id.
        attack_options: attack -> options of [`evaluate`], over the defaults of the flags.
        tests, test_options: `benchmarks` and `benchmark_options` of it.
        progress: its coming steps are [`steps_of`] these models.
        init: of `from_pretrained`, for all of them.
        bf16: forward passes compute in bfloat16; the weights stay what they are.
    """
    from .. import evaluate
    from ..evaluation import attack_names, save_tables
    from ..trainers import loading
    from ..utils.salts import salt_for

    options = EvaluateArguments().attack_options()
    options |= {attack: {**options.get(attack, {}), **own} for attack, own in (attack_options or {}).items()}
    state = running.processes()
    of, init = saved_runs.said_of_runs(models, prepared), init or {}
    subjects = {role: partial(_load, loading, folder, state.device, init, bf16) for role, folder in models.items()}
    splits = splits_of(data, prepared)
    left_out = len(prepared.splits.get("test", ())) - len(splits.get("test", ()))
    subjects |= {role: whole_tables(folder, splits) for role, folder in (tables or {}).items()}
    progress = progress or NoProgress()
    progress.next()
    if left_out:
        progress.say(f"{left_out} test rows are of classes that are to go: they are not measured.")
    card = evaluate(
        subjects,
        splits,
        attacks=[attack for attack in (attack_names() if attacks is None else attacks) if attack != "none"],
        processing_class=prepared.processing_class,
        batch_size=batch_size,
        max_rows=max_rows,
        task=task,
        seed=seed,
        provenance={"request": prepared.request, "smoke": is_a_try(data), "bf16": bf16, **(provenance or {})},
        attack_options=options,
        benchmarks=tests,
        benchmark_options=test_options,
        progress=partial(tell, progress, set()),
        **of,
    )
    if state.is_main_process:
        salt_for(output_dir)  # one for the tables of all roles: they can be compared
        for run in card.runs:
            save_tables(run.tables, Path(output_dir, "tables", run.model), alone=True)
    return card


def is_a_try(data: DataArguments) -> bool:
    """Whether few rows are read to see that all runs: a limit in a file says which rows the task has."""
    return bool(data.limit) and data.said_alone("limit")


def whole_tables(folder: str, splits: dict) -> dict:
    """
    A model's saved tables.

    Raises:
        ValueError: if one of the three splits that all judgement rests on is not among them, or as of `load_tables`.
    """
    from ..evaluation import load_tables

    found = load_tables(folder, splits=splits)
    if missing := [f"{name}.parquet" for name in ("forget", "retain", "unseen") if name not in found]:
        raise ValueError(f"{folder} has no {', '.join(missing)}: copy the whole folder OUTPUT_DIR/tables/ROLE.")
    return found


def steps_of(models: Iterable[str]) -> list[Step]:
    """The steps of [`measure`]: each model, then what is made of the numbers."""
    weights = [(role, MEASURING * LESS.get(role, 1.0)) for role in sorted(models, key=ROLES.index)]
    return [*(Step(f"measuring {role}", weight, "measuring") for role, weight in weights), Step("intervals", 0.12)]


def tell(progress: Progress, done: set, role: str, stage: str, share: float) -> None:
    """
    Brings the passes of a model into the bar; `done`: roles that are, kept between calls. A model is done where no
    stage is named: the passes of its last stage may be those of several attacks' parts, one behind the other.
    """
    if role in done:
        return
    progress.at(share, 1, stage)
    if not stage:
        done.add(role)
        progress.next()


def break_even(card, folders: dict[str, str]) -> str | None:
    """
    After how many such requests readiness has paid for itself, by the costs that the four models' records tell: a
    sentence, and `break_even` in the ready model's readiness.json, where that is a folder here. None: one is missing.
    What a request cost that did not end with its target reached says nothing, and a sentence says that.
    """
    from ..readiness import break_even
    from ..trainers import records
    from ..trainers.output_lock import one_run_in
    from ..unlearning.stop_rule import DROPPED, REACHED, REPLAYED
    from ..utils.files import read_json, write_json

    roles = ("ready", "original", "ready_unlearned", "unlearned")
    costs = [(card[role].cost or {}).get("row_passes") if role in folders else None for role in roles]
    if None in costs:
        return None
    if failed := [role for role in roles[2:] if card[role].stop_reason not in (REACHED, REPLAYED, DROPPED)]:
        return f"Whether readiness pays is not known: the request that led to {' and '.join(failed)} was not done."
    found = break_even.break_even(*costs)
    path = Path(folders["ready"], records.READINESS)
    with suppress(ArgumentError), one_run_in(folders["ready"]):  # not where a training is at work
        if record := read_json(path):
            write_json(path, {**record, "break_even": found})
    saves, requests = found["request_saves"], found["requests"]
    says = f"Readiness cost {found['training_extra']:,.0f} row passes, a request took {abs(saves):,.0f}"
    if not saves:
        return f"Readiness cost {found['training_extra']:,.0f} row passes, a request no fewer: it does not pay here."
    if requests is None:
        return f"{says} more: it does not pay here."
    return f"{says} fewer: {requests:g} requests of that size pay for it."


def write_cards(card, folders: dict[str, str]) -> list[str]:
    """Writes what was measured of each model into the card of its folder; the roles whose cards were written."""
    from ..trainers.output_lock import one_run_in

    written = []
    for role, folder in folders.items():
        if Path(folder).is_dir():  # others are on the hub
            try:
                with one_run_in(folder):
                    card.to_model_card(folder, role)
                written.append(role)
            except Exception as error:  # of whatever stands in a card of somebody else's; the report is there
                logger.warning("The model card in %s was left as it is: %s", folder, " ".join(problems_of(error)))
    return written


def _load(loading, folder: str, device, init: dict, bf16: bool):
    model = loading.load_model(folder, **init).to(device)
    return loading.in_bfloat16(model) if bf16 else model


def first_line(argv: list[str]) -> str:
    """What is going to be done, from the words alone."""
    rows, out, models, tables = (
        parsing.word_of("evaluate", argv, name, default)
        for name, default in (("dataset_name", "people"), ("output_dir", "outputs"), ("models", ""), ("tables", ""))
    )
    what = f"{models or f'the models in {out}'}{f' and the tables {tables}' if tables else ''}"
    if not parsing.is_readable("evaluate", argv):
        return "hf-unlearn evaluate: reads the flags"
    tests = parsing.word_of("evaluate", argv, "benchmarks", "")
    if benchmarks_alone(argv):
        return f"hf-unlearn evaluate: measures {what} by {tests}; the report goes to {Path(out, benchmarks.FOLDER)}"
    return f"hf-unlearn evaluate: measures {what} on {rows}; the report goes to {out}"


def benchmarks_alone(argv: list[str]) -> bool:
    """Whether the words alone ask for benchmarks and name no rows."""
    tests, *rows = (parsing.word_of("evaluate", argv, name, "") for name in ("benchmarks", *benchmarks.ROWS))
    return bool(tests) and not any(rows)


def main(argv: list[str]) -> int:
    """Measures, writes the report, says what was found; the exit status."""
    terminal.say(first_line(argv))
    check_rows = None if benchmarks_alone(argv) else prepare.check_rows
    own, data, model_args = parsing.parse("evaluate", argv, flag_problems, check_rows)
    terminal.quiet_libraries()
    models, state = measured_models(own), running.processes(own.use_cpu)
    steps = [terminal.short("reading the rows"), *steps_of(models), terminal.short("report")]
    attacked = [role for role in ("unlearned", "ready_unlearned") if role in {*models, *pairs(own.tables, "tables")[0]}]
    steps[-1:-1] = [Step("shadow models", SHADOW * own.shadows * len(attacked), "shadows")] if own.shadows else []
    with running.alone_in(own.output_dir), Progress(steps) as progress:
        progress.next()
        checkpoints.check_contents(models.values())
        tell = partial(told, title="Asked for", names=own.generations)
        alone, folder = benchmarks.alone(own, data), benchmarks.results_folder(own, data)
        if alone:
            prepared = benchmarks.tokenizer_alone(own, models, data)
        else:
            prepared = prepared_rows(own, data, model_args, lambda *asked: progress.say(tell(*asked)))
            prepare.tell_length(prepared, progress)
            texts = general_texts.split(own, data, models, prepared.processing_class)
            prepared = replace(prepared, beside=texts)
        card = measure(
            folder,
            data,
            prepared,
            task=own.title or Path(own.output_dir).name,
            models=models,
            tables=pairs(own.tables, "tables")[0],
            attacks=["none"] if alone else own.attacks,
            attack_options=own.attack_options(),
            tests=benchmarks.places(own.benchmarks)[0],
            test_options=benchmarks.options(own),
            batch_size=own.per_device_eval_batch_size,
            max_rows=own.max_rows,
            seed=own.seed,
            provenance=said_of(own, data, argv, prepared.request),
            progress=progress,
            init=init_of(model_args, of_flag=False),
            bf16=own.bf16,
        )
        if own.shadows:
            from . import shadows

            progress.next()
            if state.is_main_process:
                card.save(own.output_dir, generations=own.generations)  # what there is, should a shadow fail
            shadows.add(card, own, argv, data, prepared, progress)
        failed = card.failed_gates(own.fail_on) if own.fail_on else []
        progress.next()
        if state.is_main_process:
            # Benchmarks alone judge no request: what the models' cards say of one stays.
            told_in = replace(own, output_dir=folder, model_cards=own.model_cards and not alone)
            conclude(card, told_in, models, failed, progress)
        state.wait_for_everyone()  # a launcher ends all processes where one leaves with an error: first the report
    return FAILED if failed else 0


def said_of(own: EvaluateArguments, data: DataArguments, argv: list[str], request: dict) -> dict:
    """What score card and report say of the command and of what was asked for; with --no_generations not by name."""
    from ..data.who_asked import without_names

    of_rows = () if own.generations else ("unseen_ids", "deleted")
    of_people = () if own.generations or by_class(data) else ("forget_values", "forget_ids", "forget_where")
    return {
        "commands": [running.command_line(argv, "hf-unlearn evaluate", {*of_rows, *of_people})],
        "request": request if own.generations else without_names(request),
    }


def conclude(
    card, own: EvaluateArguments, models: dict[str, str], failed: list[str], progress: Progress | None = None
) -> None:
    """Writes scorecard and report, and prints what was found in a few words; the report has the sentences."""
    from ..evaluation.scorecard_files import without_answers
    from ..report.words import benchmarks as tests
    from ..report.words.few_words import table

    if not own.generations:
        for run in card.runs:  # so that the page does not hold them either
            run.details = without_answers(run.details)
    card.save(own.output_dir, generations=own.generations)
    card.to_html(Path(own.output_dir, "report.html"))
    if progress:
        progress.end()  # what follows is printed where the bar was
    if any(run.tables for run in card.runs):
        print(table(card.to_dict()))
    if found := tests.table(card.to_dict()):
        print(found)
    if line := break_even(card, models):
        print(line)
    print(f"Why, and what it rests on: {Path(own.output_dir, 'report.html')}")
    if own.model_cards and (written := write_cards(card, models)):
        print(f"What was measured is also in the model cards (README.md) of {', '.join(written)}.")
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    if own.fail_on and not failed:
        print(f"All gates passed: {', '.join(dict.fromkeys(own.fail_on))}.")
