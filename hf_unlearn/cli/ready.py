"""Trains a model ready for deletion requests, or a plain or retrained one to compare with.

    hf-unlearn ready --config my.yaml
    accelerate launch recipes/ready.py --config recipes/text/people_llama.yaml --role original

Writes OUTPUT_DIR/ROLE: the model, its tokenizer or processor, its card, and readiness.json.
"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path

from ..options import ReadyOptions
from ..options.replay import defaults_of_a_replay
from ..utils.checks import Wrong, one_of
from . import checkpoints, checks, model, parsing, prepare, reading, request, running, terminal
from .arguments import TRAINED, DataArguments, ModelArguments, ReadyArguments
from .terminal import Progress, Step

OFF = {"lambda_efficiency": 0.0, "lambda_retention": 0.0, "lambda_resistance": 0.0, "resistance": "none"}
OFF |= {"readiness": "none", **defaults_of_a_replay()}


def flag_problems(own: ReadyArguments, data: DataArguments, model_args: ModelArguments, args=None) -> list[str]:
    """What is wrong with the flags, before a row is read."""
    problems = one_of("role", own.role, TRAINED) + one_of("revocable", own.revocable, ("named", "any"))
    given = None if args is None else args.model_init_kwargs
    problems += checks.data_problems(data, model_args) + model.model_problems(data, model_args, given=given)
    if model_args.model_name_or_path:
        problems += checkpoints.named_place_problems(data, model_args, given)
    elif not problems:
        problems += model.build_problems(data.task, model_args)
    if model_args.lora_r > 0 and not model_args.model_name_or_path:
        said = (
            f"is {model_args.lora_r}, and the model is a new one: the weights under the adapter would stay as they are "
            "drawn, and are not saved with it. Leave it out, or write it as `unlearn.lora_r` for the request alone."
        )
        problems.append(Wrong("lora_r", said))
    if args is not None:
        problems += checks.folder_problems(Path(args.output_dir, own.role)) + checks.library_problems(args)
        if own.role == "ready" and args.readiness == "memory":
            problems += memory_problems(model_args)
        elif args.request_group and own.revocable == "named" and own.role == "ready":
            said = f"is {args.request_group!r}, which is for --revocable any: named rows are those that the split says."
            problems.append(Wrong("request_group", said))
        if own.role == "ready" and own.revocable == "any" and args.is_replayable:
            said = f'is "any", but `readiness` is {args.readiness!r}, which puts named rows last. Leave it out, or set '
            problems.append(Wrong("revocable", f'{said}`readiness` to "meta".'))
        if own.role == "ready":
            problems += args.idle_beside_rows(args.given, named=own.revocable == "named")
    return problems


def memory_problems(model_args: ModelArguments) -> list[str]:
    """What is wrong with the model that a memory is to lie beside."""
    problems = []
    if not model_args.model_name_or_path:
        said = "is not set: a memory lies beside a frozen model, and a new one knows nothing. Name a trained one."
        problems.append(Wrong("model_name_or_path", said))
    if model_args.lora_r > 0:
        said = f"is {model_args.lora_r}, and `readiness` is \"memory\", which is an adapter of its own. Leave one out."
        problems.append(Wrong("lora_r", said))
    return problems


def train(
    own: ReadyArguments,
    data: DataArguments,
    model_args: ModelArguments,
    args,
    prepared: prepare.Prepared | None = None,
    progress: Progress | None = None,
):
    """
    Trains the model of `own.role` and saves it in `args.output_dir`/role; returns the trainer.

    Args:
        args: a `ReadyConfig`; its output folder, and for other roles than ready its readiness, are set here.
        prepared: the rows, where they are at hand.
        progress: its present step is this training.
    """
    from datasets import concatenate_datasets

    from .. import ReadyTrainer
    from ..data.encode.documents import DOCUMENT

    prepared = prepared or prepared_for(own, data, model_args, args)
    args.output_dir = str(Path(args.output_dir, own.role))
    if own.role != "ready":
        for name, value in OFF.items():
            setattr(args, name, value)
    elif args.readiness == "memory" and args.request_group is None:
        args.request_group = group_column(data, prepared.splits["forget"])
    elif args.is_replayable and args.slice_by is None:
        windows = DOCUMENT if DOCUMENT in prepared.splits["forget"].column_names else None
        args.slice_by = group_column(data, prepared.splits["forget"]) or windows
    retrained = own.role.startswith("retrained")
    if own.role == "retrained_again":
        args.seed += 1
    rows = marked(prepared.splits["retain"], False)
    if not retrained:
        rows = concatenate_datasets([marked(prepared.splits["forget"], True), rows])
    named = own.revocable == "named" and not retrained
    begun, peft_config = model.beginning(data, model_args, prepared, args.seed, args.model_init_kwargs)
    args.model_init_kwargs = None  # it is loaded
    trainer = ReadyTrainer(
        begun,
        args,
        rows,
        revocable="revocable" if named else None,
        eval_dataset=prepared.splits.get("test", prepared.splits["unseen"]),
        processing_class=prepared.processing_class,
        peft_config=peft_config,
    )
    return running.train_and_save(trainer, own.role, prepared, progress)


def prepared_for(
    own: ReadyArguments, data: DataArguments, model_args: ModelArguments, args, tell=None
) -> prepare.Prepared:
    """The rows of a training; under a replay's order all roles share what is made from the stable rows alone."""
    stable_alone = args.is_replayable and own.revocable == "named"
    beside = [Path(args.output_dir, role) for role in ("ready", "original")] if own.role.startswith("retrained") else []
    trained = [str(folder) for folder in beside if checkpoints.is_checkpoint(folder)]
    return prepare.prepare(data, model_args, model_args.model_name_or_path, stable_alone, tell, trained)


def group_column(data: DataArguments, rows) -> str | None:
    """
    Column of the encoded rows that a request goes by, whose values are asked for as a whole. None: single rows, as
    where a row has several labels and so is of no one class.
    """
    from ..data.label_lists import holds_lists

    columns = request.columns_of(data)
    named = [*columns, "labels"] if request.by_class(data) else columns
    there = [name for name in named if name in rows.column_names and not holds_lists(rows, name)]
    return there[0] if there and len(columns) == 1 else None


def marked(rows, revocable: bool):
    """The rows with a column that says whether they are revocable, in the place of one that their file may have."""
    rows = rows.remove_columns([name for name in ("revocable",) if name in rows.column_names])
    return rows.add_column("revocable", [revocable] * len(rows))


def test_result(trainer, prepared: prepare.Prepared, progress: Progress) -> str | None:
    """Accuracy on the test rows with its 95 % interval, and loss, in a few words; None where there are no such rows."""
    rows = prepared.splits.get("test")
    if rows is None:
        return None
    from .. import collect, default_collator
    from ..evaluation import measure

    table = collect(
        trainer.model,
        rows,
        default_collator(trainer.model, prepared.processing_class),
        batch_size=trainer.args.per_device_eval_batch_size,
        progress=lambda _, done, total: progress.at(done, total),
    )
    found = measure({"test": table})
    name = next(name for name in ("test_accuracy", "test_token_accuracy") if name in found)
    value, low, high, n = (found[name][key] for key in ("value", "low", "high", "n"))
    what = name.removeprefix("test_").replace("_", " ")
    between = "" if low is None else f" ({100 * low:.1f}–{100 * high:.1f})"
    if "test_f1" in found:  # of several labels
        what, between = "every label right", f"{between}; their F1 {100 * found['test_f1']['value']:.1f} %"
    return f"{what} on the {n} test rows: {100 * value:.1f} %{between}; loss {found['test_loss']['value']:.3g}"


def first_line(argv: list[str]) -> str:
    """What is going to be done, from the words alone."""
    role, rows, out = (
        parsing.word_of("ready", argv, name, default)
        for name, default in (("role", "ready"), ("dataset_name", "people"), ("output_dir", "trainer_output"))
    )
    if not parsing.is_readable("ready", argv):
        return "hf-unlearn ready: reads the flags"
    return f"hf-unlearn ready: trains the model {role!r} on {rows}; it goes to {Path(out, role)}"


def main(argv: list[str]) -> None:
    terminal.say(first_line(argv))
    own, data, model_args, args = parsing.parse("ready", argv, flag_problems, prepare.check_rows)
    terminal.quiet_libraries()
    steps = [terminal.short("reading the rows"), Step(f"training, {own.role}")]
    steps += [terminal.short("measuring the test rows")] if data.test_split or data.test_fraction else []
    with Progress(steps, bar=not args.disable_tqdm) as progress:
        progress.next()
        checkpoints.check_contents([model_args.model_name_or_path])
        title = "Left out" if own.role.startswith("retrained") else "May be asked for"
        tell = partial(request.told, title=title)
        prepared = checkpoints.with_named(
            lambda: prepared_for(own, data, model_args, args, lambda *asked: progress.say(tell(*asked))),
            data,
            model_args,
            args.model_init_kwargs,
        )
        prepare.tell_length(prepared, progress)
        progress.next()
        trainer = train(own, data, model_args, args, prepared, progress)
        if len(steps) > 2:
            progress.next()
        result = test_result(trainer, prepared, progress)
    if trainer.is_world_process_zero():
        print(f"{running.steps(trainer)}; saved in {trainer.args.output_dir}")
        if result:
            print(result)
        if unread := unread_options(own, argv):
            print(f"Not used, since {own.role} is trained plainly: {', '.join(unread)}.")


def unread_options(own: ReadyArguments, argv: list[str]) -> list[str]:
    """Options of readiness that the command line gives for a role that has none; a file serves all roles."""
    if own.role == "ready":
        return []
    typed = {one.plain_name for one in reading.read_words(argv)[0] if one.prefix in ("", "ready.")}
    return sorted(typed & {"revocable", *(f.name for f in fields(ReadyOptions))})
