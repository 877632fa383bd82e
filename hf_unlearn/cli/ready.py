"""Trains a model ready for deletion requests, or a plain or retrained one to compare with.

    hf-unlearn ready --config my.yaml
    accelerate launch recipes/ready.py --config recipes/text/people_llama.yaml --role original

Writes OUTPUT_DIR/ROLE: the model, its tokenizer or processor, its card, and readiness.json.
"""

from __future__ import annotations

from pathlib import Path

from ..utils.checks import gather, raise_problems
from . import model, parsing, prepare, running
from .arguments import TRAINED, DataArguments, ModelArguments, ReadyArguments

OFF = {"lambda_efficiency": 0.0, "lambda_retention": 0.0, "lambda_resistance": 0.0, "resistance": "none"}


def check(own: ReadyArguments, data: DataArguments, model_args: ModelArguments) -> prepare.Prepared:
    """
    The rows, ready to train on.

    Raises:
        ArgumentError: with all problems of the flags and of the rows.
    """

    def own_flags():
        problems = []
        if own.role not in TRAINED:
            problems.append(f"`--role` is {own.role!r}; it must be one of {', '.join(TRAINED)}.")
        if own.revocable not in ("named", "any"):
            problems.append(f"`--revocable` is {own.revocable!r}; it must be named or any.")
        raise_problems(problems)

    return gather(
        own_flags,
        lambda: model.check_model(model_args),
        lambda: prepare.prepare(data, model_args, model_args.model_name_or_path),
    )[-1]


def train(
    own: ReadyArguments, data: DataArguments, model_args: ModelArguments, args, prepared: prepare.Prepared | None = None
):
    """
    Trains the model of `own.role` and saves it in `args.output_dir`/role; returns the trainer.

    Args:
        args: a `ReadyConfig`; its output folder, and for other roles than ready its readiness, are set here.
        prepared: the rows, where they are at hand.
    """
    from datasets import concatenate_datasets

    from .. import ReadyTrainer

    prepared = prepared or check(own, data, model_args)
    args.output_dir = str(Path(args.output_dir, own.role))
    if own.role != "ready":
        for name, value in OFF.items():
            setattr(args, name, value)
    retrained = own.role.startswith("retrained")
    if own.role == "retrained_again":
        args.seed += 1
    rows = prepared.splits["retain"].add_column("revocable", [False] * len(prepared.splits["retain"]))
    if not retrained:
        forget = prepared.splits["forget"].add_column("revocable", [True] * len(prepared.splits["forget"]))
        rows = concatenate_datasets([forget, rows])
    named = own.revocable == "named" and not retrained
    trainer = ReadyTrainer(
        model.new_model(data, model_args, prepared, args.seed),
        args,
        rows,
        revocable="revocable" if named else None,
        eval_dataset=prepared.splits.get("test", prepared.splits["unseen"]),
        processing_class=prepared.processing_class,
        peft_config=model.adapter(data, model_args),
    )
    return running.train_and_save(trainer)


def main(argv: list[str]) -> None:
    trainer = train(*parsing.parse("ready", argv, check))
    if trainer.is_world_process_zero():
        print(f"{trainer.state.global_step} steps; saved in {trainer.args.output_dir}")
