"""What is wrong with flags together, before a row is read: a flag that nothing would read is refused, not ignored."""

from __future__ import annotations

import os
from pathlib import Path

from ..data.encode.pairs import check_prompt
from ..data.rows.files import builder_of
from ..utils.checks import Wrong, one_of
from . import request
from .arguments import TASKS, DataArguments, ModelArguments

NAMES = (
    "model_name_or_path",
    "model_type",
    "dataset_name",
    "data_files",
    "dataset_config",
    "dataset_split",
    "dataset_revision",
    "test_split",
    "forget_column",
    "unseen_group",
    "processing_from",
)
CLASSIFIERS = TASKS[1:]
TEXTS = TASKS[:2]
RESULTS = ("scorecard.json", "report.html", "rows.parquet", "generations.parquet", "history.json")
READ_BY = {  # flag -> tasks that read it; the others are for all
    "question_column": TASKS[:1],
    "answer_column": TASKS[:1],
    **{f"{name}_column": TASKS[:1] for name in ("messages", "prompt", "completion", "instruction", "input", "output")},
    "prompt": TASKS[:1],
    "stride": TASKS[:1],
    "text_column": TEXTS,
    "image_column": ("image_classification",),
    "audio_column": ("audio_classification",),
    "label_column": CLASSIFIERS,
    "label_columns": CLASSIFIERS,
    "label_separator": CLASSIFIERS,
    "skip_broken": ("image_classification", "audio_classification"),
    "sampling_rate": ("audio_classification",),
    "max_seconds": ("audio_classification",),
    "max_length": TEXTS,
    "vocab_size": TEXTS,
}


def folder_problems(output_dir) -> list[str]:
    """What is wrong with the folder that a run is to write to, or with the one that it would have to be made in."""
    folder = there = Path(output_dir).expanduser()
    while not there.is_symlink() and not there.exists() and there != there.parent:
        there = there.parent
    got = f"is {str(folder)!r}"
    if there.is_symlink() and not there.exists():
        return [Wrong("output_dir", f"{got}, and {there} is a link to {os.readlink(there)!r}, which is not there.")]
    if not there.is_dir():
        return [Wrong("output_dir", f"{got}, and {there} is a file. Name a folder.")]
    if not os.access(there, os.W_OK | os.X_OK):
        return [Wrong("output_dir", f"{got}, and in {there} nothing can be written. Name another folder.")]
    return []


def result_problems(output_dir) -> list[str]:
    """What stands where `evaluate` is to write its files: told before a model is measured."""
    folder = Path(output_dir).expanduser()
    taken = [folder / name for name in RESULTS if (folder / name).is_dir()]
    said = [Wrong("output_dir", f"is {str(folder)!r}, and {path} is a folder, not a file. Move it.") for path in taken]
    if (folder / "tables").exists() and not (folder / "tables").is_dir():
        said.append(Wrong("output_dir", f"is {str(folder)!r}, and {folder / 'tables'} is no folder. Move it."))
    return said


def library_problems(args) -> list[str]:
    """
    What is wrong with values that the libraries would refuse when the training begins: places that its log is to go to,
    names, and packages that are not installed.
    """
    from accelerate.utils import DynamoBackend
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
    from transformers.utils import is_liger_kernel_available

    said = []
    if args.hub_model_id:
        try:
            validate_repo_id(args.hub_model_id)
        except HFValidationError as error:
            said.append(Wrong("hub_model_id", f"is {args.hub_model_id!r}: {' '.join(str(error).split())}"))
    if args.torch_compile_backend:
        known = [backend.value for backend in DynamoBackend]
        if str(args.torch_compile_backend).upper() not in known:
            said += one_of("torch_compile_backend", args.torch_compile_backend, known)
    if args.use_liger_kernel and not is_liger_kernel_available():
        said.append(Wrong("use_liger_kernel", "is True, but the package liger-kernel is not installed."))
    elif args.use_liger_kernel and args.device.type == "cpu":
        said.append(Wrong("use_liger_kernel", "is True, but its kernels need a GPU, and this run has none."))
    for name in args.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(INTEGRATION_TO_CALLBACK)
            said.append(Wrong("report_to", f"is {name!r}; expected none, all or some of {known}."))
            continue
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            said.append(Wrong("report_to", f"is {name!r}: {' '.join(str(error).split())}"))
    return said


def empty_words(*arguments) -> list[str]:
    """Names that are empty, as a variable of a shell that is not set: taken for no name they would not be missed."""
    return [
        Wrong(name, "is an empty word. Name one, or leave it out.")
        for one in arguments
        for name in NAMES
        if getattr(one, name, None) == ""
    ]


def is_told(flag: str, problems: list[str]) -> bool:
    """Whether one of the problems is that flag's already."""
    return any(isinstance(one, Wrong) and one.name == flag for one in problems)


def replay_problems(salt_file: str | None, snapshots: str | None) -> list[str]:
    """What is wrong with where the salt and the snapshots of a plan are said to be."""
    from ..trainers.hub_snapshots import repository_of

    problems = []
    if salt_file and not Path(salt_file).expanduser().is_file():
        problems.append(Wrong("salt_file", f"is {salt_file!r}, and there is no such file."))
    if snapshots and repository_of(snapshots) is None and not Path(snapshots).expanduser().is_dir():
        problems.append(Wrong("snapshots", f"is {snapshots!r}, and there is no such folder."))
    return problems


def data_problems(data: DataArguments, model: ModelArguments) -> list[str]:
    """What is wrong with the flags that say which rows, as far as no row is needed to tell."""
    problems = one_of("task", data.task, TASKS)
    changed = data.changed() | model.changed()
    if not problems:
        unread = [name for name in READ_BY if name in changed and data.task not in READ_BY[name]]
        if data.forget_by == "class" and "label_column" in unread:  # the column of the classes, whatever the task
            unread.remove("label_column")
        problems += [
            Wrong(
                name, f"is set, but task {data.task} does not read it (for {', '.join(READ_BY[name])}). Leave it out."
            )
            for name in unread
        ]
    problems += empty_words(data, model) + request.problems(data) + check_prompt(data.prompt)
    if data.unseen_ids and "unseen" in data.given and data.said_alone("unseen") == data.said_alone("unseen_ids"):
        problems.append(Wrong("unseen", f"is {data.unseen:g}, and --unseen_ids names the rows. Give one of the two."))
    by_words = request.way_of(data) in ("forget_ids", "forget_where")
    if data.forget_by == "random" and data.forget_column and not by_words:
        said = f"is {data.forget_column!r}, but --forget_by random draws single rows of all. Set it to null."
        problems.append(Wrong("forget_column", said))
    if data.label_columns and data.label_separator:
        said = f"is {data.label_separator!r}, and --label_columns has a column for each label. Give one of the two."
        problems.append(Wrong("label_separator", said))
    if data.test_split and data.test_fraction:
        said = (
            f"is {data.test_fraction:g}, but --test_split {data.test_split} names the test rows. Give one of the two."
        )
        problems.append(Wrong("test_fraction", said))
    if data.test_split and data.test_split == (data.dataset_split or "train"):
        said = f"is {data.test_split!r}, which is trained on. Name another, or hold rows out by --test_fraction."
        problems.append(Wrong("test_split", said))
    of_a_file = model.said_alone("model_name_or_path") and not data.said_alone("sampling_rate")  # for a new model
    if model.model_name_or_path and "sampling_rate" in changed and not of_a_file:
        said = f"is for a new model; {model.model_name_or_path} brings its own feature extractor. Leave it out."
        problems.append(Wrong("sampling_rate", said))
    is_path = builder_of(data.dataset_name) is not None or data.dataset_name.startswith((".", "/", "~"))
    if data.data_files and is_path:
        said = (
            f"is {data.data_files!r}, and --dataset_name {data.dataset_name!r} names a file or folder, too. Give one."
        )
        problems.append(Wrong("data_files", said))
    return problems
