"""Unlearns the forget rows from a trained model, and stops by itself.

    hf-unlearn unlearn --config my.yaml
    accelerate launch recipes/unlearn.py --config recipes/text/people_llama.yaml --start original

Writes OUTPUT_DIR/ready_unlearned or OUTPUT_DIR/unlearned: the model, its card, and unlearning.json.
"""

from __future__ import annotations

from pathlib import Path

from ..utils.checks import gather, raise_problems
from . import model, parsing, prepare, running
from .arguments import STARTS, DataArguments, ModelArguments, UnlearnArguments
from .checkpoints import is_checkpoint


def check(
    own: UnlearnArguments, data: DataArguments, model_args: ModelArguments, output_dir: str | None = None
) -> prepare.Prepared:
    """
    The rows, ready for the request.

    Args:
        output_dir: where `ready` has saved its models; None: not known, since the training flags are wrong.

    Raises:
        ArgumentError: with all problems of the flags and of the rows, and if there is no model to start from.
    """
    source, problems = model_args.model_name_or_path, []
    if own.start not in STARTS:
        problems.append(f"`--start` is {own.start!r}; it must be ready or original.")
    elif not source and output_dir is not None:
        source = str(Path(output_dir, own.start))
        if not is_checkpoint(source):
            problems.append(
                f"There is no model in {source}. Train it first, by the verb ready with the same --config and "
                f"--role {own.start}, or name one by --model_name_or_path."
            )
            source = None
    return gather(lambda: raise_problems(problems), lambda: prepare.prepare(data, model_args, source))[-1]


def unlearn(
    own: UnlearnArguments,
    data: DataArguments,
    model_args: ModelArguments,
    args,
    prepared: prepare.Prepared | None = None,
):
    """
    Unlearns from the model that `own` names, saves the result in `args.output_dir`/role, returns the trainer.

    Args:
        args: an `UnlearnConfig`; its output folder is set here.
        prepared: the rows, where they are at hand.
    """
    from .. import UnlearnTrainer

    source = model_args.model_name_or_path or str(Path(args.output_dir, own.start))
    prepared = prepared or check(own, data, model_args, args.output_dir)
    args.output_dir = str(Path(args.output_dir, STARTS[own.start]))
    trainer = UnlearnTrainer(
        source,
        args,
        prepared.splits["forget"],
        prepared.splits["retain"],
        prepared.splits["unseen"],
        processing_class=prepared.processing_class,
        peft_config=model.adapter(data, model_args),
    )
    return running.train_and_save(trainer)


def main(argv: list[str]) -> None:
    trainer = unlearn(*parsing.parse("unlearn", argv, check))
    from ..unlearning.stop_rule import STOP_REASONS

    if trainer.is_world_process_zero():
        print(
            f"{trainer.state.global_step} steps; stopped because {STOP_REASONS[trainer.stop_reason]}; "
            f"saved in {trainer.args.output_dir}"
        )
