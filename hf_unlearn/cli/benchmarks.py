"""Benchmarks on the command line: `--benchmarks NAME=WHERE`, their options, and an evaluation of nothing else."""

from __future__ import annotations

from pathlib import Path

from ..utils.checks import Wrong, problems_of
from .arguments import DataArguments, EvaluateArguments, benchmark_flags
from .from_flags import with_breaks

ROWS = ("dataset_name", "data_files")  # flags that name the rows of a request
OF_ROWS = ("attacks", "tables", "shadows", "fail_on")  # flags that have no meaning without such rows
FOLDER = "benchmarks"  # in OUTPUT_DIR, for what comes of benchmarks alone


def places(words: list[str] | None) -> tuple[dict[str, str | list[str]], list[str]]:
    """NAME=WHERE words as a dict, several of one name as a list; and what is wrong with them."""
    from ..evaluation.benchmarks import benchmark_names

    found: dict[str, list[str]] = {}
    problems = []
    for word in words or []:
        name, equals, where = word.partition("=")
        if not (equals and where) or name not in benchmark_names():
            known = ", ".join(benchmark_names())
            problems.append(f"`--benchmarks` takes NAME=WHERE, NAME one of {known}; got {word!r}.")
            continue
        found.setdefault(name, []).append(where)
    if len(found.get("muse", ())) > 1:
        problems.append(f"`--benchmarks` gives muse {len(found['muse'])} times: give one folder or hub id.")
    return {name: where[0] if len(where) == 1 else where for name, where in found.items()}, problems


def options(own: EvaluateArguments) -> dict[str, dict]:
    """Benchmark -> its options by name, as the flags say, for those that are asked for."""
    asked = places(own.benchmarks)[0]
    found: dict[str, dict] = {}
    for name, option, _ in benchmark_flags():
        if name in asked:
            found.setdefault(name, {})[option.name] = with_breaks(getattr(own, f"{name}_{option.name}"))
    return found


def problems(own: EvaluateArguments, data: DataArguments) -> list[str]:
    """What is wrong with the benchmarks' flags and, where they are here, with their files."""
    asked, found = places(own.benchmarks)
    found += [
        Wrong(flag, f"is an option of the benchmark {name}, which is not among --benchmarks.")
        for name, option, _ in benchmark_flags()
        if name not in asked and (flag := f"{name}_{option.name}") in own.given and own.given[flag].file is None
    ]
    if not asked:
        return found
    if data.task != "causal_lm":
        found.append(Wrong("benchmarks", f"are of language models (task causal_lm), and --task is {data.task}."))
    if alone(own, data):
        found += [
            Wrong(flag, "needs rows of a request: name them by --dataset_name, or leave it out.")
            for flag in OF_ROWS
            if flag in own.given and own.given[flag].file is None and getattr(own, flag) not in (["none"], 0)
        ]
    for name, where in asked.items():
        found += _of_files(name, where, options(own)[name])
    return found


def _of_files(name: str, where: str | list[str], given: dict) -> list[str]:
    """What is wrong with a benchmark's options, and with its rows where no hub has to be asked."""
    from ..data.rows.files import is_path
    from ..evaluation.benchmarks.registry import BENCHMARKS

    try:
        own = BENCHMARKS[name].options_of(given)
        if all(map(is_path, [where] if isinstance(where, str) else where)):
            BENCHMARKS[name].read(where, own)
    except (ValueError, OSError) as error:
        said = [" ".join(problem.split()) for problem in problems_of(error)]
        for option in given:
            said = [problem.replace(f"`{option}`", f"`--{name}_{option}`") for problem in said]
        return said
    return []


def alone(own: EvaluateArguments, data: DataArguments) -> bool:
    """Whether nothing but benchmarks is measured: they are asked for, and no rows are named."""
    return bool(own.benchmarks) and not any(name in data.given for name in ROWS)


def results_folder(own: EvaluateArguments, data: DataArguments) -> str:
    """Where score card and report go: apart, where only benchmarks are measured, lest they take the place of others."""
    return str(Path(own.output_dir, FOLDER)) if alone(own, data) else own.output_dir


def tokenizer_alone(own: EvaluateArguments, models: dict[str, str], data: DataArguments):
    """
    The models' tokenizer, as rows that are none.

    Raises:
        ValueError: if a checkpoint brings none, or it cannot be loaded.
    """
    from transformers import AutoTokenizer

    from . import checkpoints
    from .prepare import Prepared

    where = checkpoints.processing_of(own.processing_from, models, data)
    try:
        return Prepared({}, AutoTokenizer.from_pretrained(where), None)
    except Exception as error:  # a broken file is another type in each library
        raise ValueError(f"The tokenizer of {where!r} cannot be loaded: {' '.join(str(error).split())}") from error
