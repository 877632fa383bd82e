"""Trains a model ready for deletion requests, or a plain or retrained one to compare with.

accelerate launch recipes/ready.py --config recipes/text/people_llama.yaml
python recipes/ready.py --config recipes/text/people_llama.yaml --role original
"""

from __future__ import annotations

from pathlib import Path

from . import arguments, models, parsing, preparing, running

TRAINED = ("ready", "original", "retrained", "retrained_again")


def check(script: arguments.ReadyScript, data, model_args) -> preparing.Prepared:
    """
    The rows, ready to train on.

    Raises:
        ArgumentError: with all problems of the flags and of the rows.
    """

    def flags():
        problems = []
        if script.role not in TRAINED:
            problems.append(f"`--role` is {script.role!r}; it must be one of {', '.join(TRAINED)}.")
        if script.revocable not in ("named", "any"):
            problems.append(f"`--revocable` is {script.revocable!r}; it must be named or any.")
        parsing.fail(problems)

    return parsing.gather(
        flags,
        lambda: models.check_model(model_args),
        lambda: preparing.prepare(data, model_args, model_args.model_name_or_path),
    )[-1]


def train(script: arguments.ReadyScript, data, model_args, args, prepared: preparing.Prepared | None = None):
    """Trains the model of `script.role` and saves it in `args.output_dir`/role; returns the trainer."""
    from datasets import concatenate_datasets

    from .. import ReadyTrainer

    prepared = prepared or check(script, data, model_args)
    args.output_dir = str(Path(args.output_dir, script.role))
    if script.role != "ready":
        args.lambda_efficiency = args.lambda_retention = args.lambda_resistance = 0.0
        args.resistance = "none"
    retrained = script.role.startswith("retrained")
    if script.role == "retrained_again":
        args.seed += 1
    rows = prepared.splits["retain"].add_column("revocable", [False] * len(prepared.splits["retain"]))
    if not retrained:
        forget = prepared.splits["forget"].add_column("revocable", [True] * len(prepared.splits["forget"]))
        rows = concatenate_datasets([forget, rows])
    named = script.revocable == "named" and not retrained
    trainer = ReadyTrainer(
        models.new_model(data, model_args, prepared, args.seed),
        args,
        rows,
        revocable="revocable" if named else None,
        eval_dataset=prepared.splits.get("test", prepared.splits["unseen"]),
        processing_class=prepared.processing_class,
        peft_config=models.adapter(data, model_args),
    )
    return running.train_and_save(trainer)


def main(argv: list[str]) -> None:
    parsed = parsing.parse("ready", arguments.ReadyScript, argv, "ReadyConfig", __doc__, check)
    trainer = train(*parsed)
    if trainer.is_world_process_zero():
        print(f"{trainer.state.global_step} steps; saved in {trainer.args.output_dir}")
