"""Trains a model ready for deletion requests, or a plain or retrained one to compare with.

    hf-unlearn ready --config my.yaml
    accelerate launch recipes/ready.py --config recipes/text/people_llama.yaml --role original

Writes OUTPUT_DIR/ROLE: the model, its tokenizer or processor, its card, and readiness.json.
"""

from __future__ import annotations

from pathlib import Path

from ..utils.checks import one_of
from . import checkpoints, checks, model, parsing, prepare, running
from .arguments import TRAINED, DataArguments, ModelArguments, ReadyArguments

OFF = {"lambda_efficiency": 0.0, "lambda_retention": 0.0, "lambda_resistance": 0.0, "resistance": "none"}


def flag_problems(own: ReadyArguments, data: DataArguments, model_args: ModelArguments, args=None) -> list[str]:
    """What is wrong with the flags, before a row is read."""
    problems = one_of("role", own.role, TRAINED) + one_of("revocable", own.revocable, ("named", "any"))
    problems += checks.data_problems(data, model_args) + model.model_problems(data, model_args)
    if model_args.model_name_or_path:
        problems += checkpoints.place_problems("model_name_or_path", model_args.model_name_or_path)
    return problems


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

    prepared = prepared or prepare.prepare(data, model_args, model_args.model_name_or_path)
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
    return running.train_and_save(trainer, own.role, prepared)


def main(argv: list[str]) -> None:
    trainer = train(*parsing.parse("ready", argv, flag_problems, prepare.check_rows))
    if trainer.is_world_process_zero():
        print(f"{trainer.state.global_step} steps; saved in {trainer.args.output_dir}")
