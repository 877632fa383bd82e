"""Unlearns the forget rows from a trained model, and stops by itself.

    hf-unlearn unlearn --config my.yaml
    accelerate launch recipes/unlearn.py --config recipes/text/people_llama.yaml --start original

Writes OUTPUT_DIR/ready_unlearned or OUTPUT_DIR/unlearned: the model, its card, and unlearning.json. Exit status 4: a
budget (of retain rows or general texts) was spent so early that the weights from before the request were put back, or
no step moved a weight; in both cases nothing was forgotten.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..utils.checks import Wrong, one_of
from . import checkpoints, checks, model, parsing, prepare, request, running, terminal
from .adapters import adapter, two_adapters
from .arguments import STARTS, DataArguments, ModelArguments, UnlearnArguments
from .loading import code_problems, init_of, is_adapter_folder, packed_alone_problems
from .terminal import Progress, Step

NOT_UNLEARNED = 4  # exit status: the weights are those from before the request


def named_model(model_args: ModelArguments) -> str | None:
    """
    The model that was named for this verb: on the command line, or as `unlearn.model_name_or_path` in the YAML file. A
    plain key there names what `ready` started from.
    """
    return model_args.model_name_or_path if model_args.said_alone("model_name_or_path") else None


def source_of(own: UnlearnArguments, model_args: ModelArguments, output_dir) -> str:
    """Folder or hub id of the model to unlearn from."""
    return named_model(model_args) or str(Path(output_dir, own.start))


def flag_problems(own: UnlearnArguments, data: DataArguments, model_args: ModelArguments, args=None) -> list[str]:
    """
    What is wrong with the flags, before a row is read.

    Args:
        args: an `UnlearnConfig`, whose output folder holds the models of `ready`; None: its flags are wrong.
    """
    problems = one_of("start", own.start, tuple(STARTS))
    given = None if args is None else args.model_init_kwargs
    problems += checks.data_problems(data, model_args)
    problems += model.model_problems(data, model_args, needs_one=False, given=given)
    if args is not None:
        problems += checks.folder_problems(args.output_dir) + checks.library_problems(args)
    if named := named_model(model_args):
        if "start" in own.given:
            said = (
                f"is {named!r}, and --start {own.start} names the model in OUTPUT_DIR/{own.start}. Give one of the two."
            )
            problems.append(Wrong("model_name_or_path", said))
        if model_args.lora_r and is_adapter_folder(named):
            problems.append(two_adapters(model_args.lora_r, named))
        problems += packed_alone_problems(model_args, named)
        problems += [] if args is None else untrained_problems(named, args.output_dir)
        return problems + checkpoints.named_place_problems(data, model_args, given)
    if model_args.revision and model_args.said_alone("revision") and not checks.is_told("revision", problems):
        said = f"is {model_args.revision!r}, which is of --model_name_or_path, and none is named here. Leave it out."
        problems.append(Wrong("revision", said))
    if args is None or own.start not in STARTS:
        return problems
    folder = Path(args.output_dir, own.start)
    if not checkpoints.is_checkpoint(folder):
        problems.append(
            f"There is no model in {folder}. Train it first, by the verb ready with the same --config and --role "
            f"{own.start}; or name another to start from, on the command line by --model_name_or_path or in the file "
            f"by `unlearn.model_name_or_path`.{checkpoints.above(args.output_dir)}"
        )
        return problems
    broken = checkpoints.place_problems("output_dir", str(folder))
    problems += broken or checkpoints.other_model_problems(model_args, own.start, folder)
    problems += packed_alone_problems(model_args, str(folder))
    problems += code_problems("output_dir", str(folder), model_args.trust_remote_code)
    if model_args.lora_r and model_args.said_alone("lora_r") and is_adapter_folder(str(folder)):
        said = f"is {model_args.lora_r}, but {folder} has an adapter already, which the request goes on with."
        problems.append(Wrong("lora_r", f"{said} Write it as `lora_r` or `ready.lora_r` in the file, or leave it out."))
    return problems


def untrained_problems(named: str, output_dir) -> list[str]:
    """Where a model that no verb has trained is named for the request, though OUTPUT_DIR holds one that `ready` has."""
    trained = [role for role in STARTS if is_recorded(str(Path(output_dir, role)))]
    if not trained or is_recorded(named):
        return []
    said = (
        f"names {named!r} as the model to take the rows out of, and what ready has trained is in "
        f"{Path(output_dir, trained[0])}. Leave it out, and say --start {trained[0]}; or give another --output_dir, if "
        "that model has seen the rows."
    )
    return [Wrong("model_name_or_path", said)]


def is_recorded(source: str) -> bool:
    """Whether a folder or hub id has a record of a training or a request; also one that cannot be read."""
    from ..trainers import records

    try:
        return records.find_readiness(source) is not None or records.find_file(source, records.UNLEARNING) is not None
    except records.NoAnswer:
        return False
    except ValueError:
        return True


def role_of(source: str, own: UnlearnArguments, model_args: ModelArguments) -> str:
    """
    Role of the result: by --start, or of a model that was named, by what its readiness.json says; where the hub does
    not answer, that of a model without one (the trainer warns of it). The first process asks for all.
    """
    if named_model(model_args) is None:
        return STARTS[own.start]
    from ..trainers import engines, records

    def start() -> str:
        try:
            found = records.find_readiness(source) or {}
        except records.NoAnswer:
            found = {}
        return "ready" if found.get("ready") else "original"

    return STARTS[engines.decided_by_first(start)]


def unlearn(
    own: UnlearnArguments,
    data: DataArguments,
    model_args: ModelArguments,
    args,
    prepared: prepare.Prepared | None = None,
    progress: Progress | None = None,
):
    """
    Unlearns from the model that `own` names, saves the result in `args.output_dir`/role, returns the trainer.

    Args:
        args: an `UnlearnConfig`; its output folder is set here.
        prepared: the rows, where they are at hand.
        progress: its present step is this request.
    """
    from .. import UnlearnTrainer

    source = source_of(own, model_args, args.output_dir)
    prepared = prepared or prepare.prepare(data, model_args, source, trained=[source])
    which = "model_name_or_path" if named_model(model_args) else own.start
    checkpoints.check_checkpoint(data, prepared.labels, which, source, model_args)
    prepared = replace(prepared, splits=checkpoints.by_plan(prepared.splits, source, args.salt_file))
    role = role_of(source, own, model_args)
    args.output_dir = str(Path(args.output_dir, role))
    of_flag = named_model(model_args) is not None
    args.model_init_kwargs = init_of(model_args, of_flag, args.model_init_kwargs) or None
    trainer = UnlearnTrainer(
        str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source,
        args,
        prepared.splits["forget"],
        prepared.splits["retain"],
        prepared.splits["unseen"],
        processing_class=prepared.processing_class,
        peft_config=new_adapter(data, model_args, source),
        general_dataset=own.general_dataset,
    )
    return running.train_and_save(trainer, role, prepared, progress, at_most=bool(args.stop) and not trainer.replays)


def new_adapter(data: DataArguments, model_args: ModelArguments, source: str):
    """The adapter to unlearn with. None: all weights, or the one that a training by the same file has left there."""
    goes_on = is_adapter_folder(source) and not model_args.said_alone("lora_r")
    return None if goes_on else adapter(data, model_args)


def first_line(argv: list[str]) -> str:
    """What is going to be done, from the words alone."""
    start, rows, out = (
        parsing.word_of("unlearn", argv, name, default)
        for name, default in (("start", "ready"), ("dataset_name", "people"), ("output_dir", "trainer_output"))
    )
    source = parsing.word_of("unlearn", argv, "model_name_or_path", str(Path(out, start)), alone=True)
    if not parsing.is_readable("unlearn", argv):
        return "hf-unlearn unlearn: reads the flags"
    return f"hf-unlearn unlearn: takes rows of {rows} out of {source}; the result goes to {out}"


def main(argv: list[str]) -> int:
    terminal.say(first_line(argv))
    own, data, model_args, args = parsing.parse("unlearn", argv, flag_problems, prepare.check_rows)
    terminal.quiet_libraries()
    with Progress([terminal.short("reading the rows"), Step("unlearning")], bar=not args.disable_tqdm) as progress:
        progress.next()
        source = source_of(own, model_args, args.output_dir)
        checkpoints.check_contents([source])
        tell = lambda *asked: progress.say(request.told(*asked))  # noqa: E731
        prepared = prepare.prepare(data, model_args, source, tell=tell, trained=[source])
        prepare.tell_length(prepared, progress)
        progress.next()
        trainer = unlearn(own, data, model_args, args, prepared, progress)
    return told(trainer)


def told(trainer) -> int:
    """Says how the request ended; returns the exit status."""
    from ..unlearning.stop_rule import STOP_REASONS

    if trainer.is_world_process_zero():
        if trainer.replays:
            print(replay_told(trainer))
        elif trainer.drops:
            print(drop_told(trainer))
        else:
            print(
                f"{running.steps(trainer)}; stopped because {STOP_REASONS[trainer.stop_reason]}; "
                f"saved in {trainer.args.output_dir}"
            )
            if not trainer.unlearned:
                print("Nothing was forgotten: these are the weights from before the request.")
            elif trainer.ending.forgotten and not trainer.ending.beyond:  # else the trainer has warned of it
                print(trainer.looks.told())
    return 0 if trainer.unlearned else NOT_UNLEARNED


def drop_told(trainer) -> str:
    """How tables were dropped, and what that guarantees."""
    found, rows = trainer.outcome(), len(trainer.asked.asked)
    again, gone = found["retrained_sources"], found["dropped_sources"]
    if trainer.store.config.variant == "own":
        what = "table" if gone == 1 else "tables"
        anew = f", filled {again} table{'' if again == 1 else 's'} anew from the rest of their rows"
    else:
        what = "entries"
        anew = f", trained those of {again} source{'' if again == 1 else 's'} anew on the rest of their rows"
    took = f"{1000 * found['drop_seconds']:.1f} ms{anew if again else ''}"
    return (
        f"dropped the {what} of {gone} sources ({rows} row{'' if rows == 1 else 's'} asked for) in {took}; "
        f"{trainer.guarantee.replace('_', ' ')}; saved in {trainer.args.output_dir}"
    )


def replay_told(trainer) -> str:
    """How a replay ended: what was run again, without how many rows, and what that guarantees."""
    total, first, rows = trainer.plan.order.steps, trainer.first_step, len(trainer.asked.asked)
    done = trainer.state.global_step - first
    until = " until `hf-unlearn verify` has passed" if trainer.guarantee == "approximate" else ""
    return (
        f"replayed {done} of {total} steps (from step {first}) without {rows} row{'' if rows == 1 else 's'}; "
        f"{trainer.guarantee.replace('_', ' ')}{until}; saved in {trainer.args.output_dir}"
    )
