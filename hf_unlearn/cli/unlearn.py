"""Unlearns the forget rows from a trained model, and stops by itself.

accelerate launch recipes/unlearn.py --config recipes/text/people_llama.yaml
python recipes/unlearn.py --config recipes/text/people_llama.yaml --start original
"""

from __future__ import annotations

from pathlib import Path

from . import arguments, models, parsing, preparing, running


def check(script: arguments.UnlearnScript, data, model_args, output_dir: str | None = None) -> preparing.Prepared:
    """
    The rows, ready for the request.

    Args:
        output_dir: where `ready.py` has saved its models; None: not known, since the training flags are wrong.

    Raises:
        ArgumentError: with all problems of the flags and of the rows, and if there is no model to start from.
    """
    source, problems = model_args.model_name_or_path, []
    if script.start not in ("ready", "original"):
        problems.append(f"`--start` is {script.start!r}; it must be ready or original.")
    elif not source and output_dir is not None:
        source = str(Path(output_dir, script.start))
        if not any(Path(source, name).is_file() for name in ("config.json", "adapter_config.json")):
            problems.append(
                f"There is no model in {source}. Train it first, by recipes/ready.py with the same --config and "
                f"--role {script.start}, or name one by --model_name_or_path."
            )
            source = None
    return parsing.gather(lambda: parsing.fail(problems), lambda: preparing.prepare(data, model_args, source))[-1]


def unlearn(script: arguments.UnlearnScript, data, model_args, args, prepared: preparing.Prepared | None = None):
    """Unlearns from the model that `script` names, saves the result, returns the trainer."""
    from .. import UnlearnTrainer

    source = model_args.model_name_or_path or str(Path(args.output_dir, script.start))
    prepared = prepared or check(script, data, model_args, args.output_dir)
    role = "ready_unlearned" if script.start == "ready" else "unlearned"
    args.output_dir = str(Path(args.output_dir, role))
    trainer = UnlearnTrainer(
        source,
        args,
        prepared.splits["forget"],
        prepared.splits["retain"],
        prepared.splits["unseen"],
        processing_class=prepared.processing_class,
        peft_config=models.adapter(data, model_args),
    )
    return running.train_and_save(trainer)


def main(argv: list[str]) -> None:
    parsed = parsing.parse("unlearn", arguments.UnlearnScript, argv, "UnlearnConfig", __doc__, check)
    trainer = unlearn(*parsed)
    from ..unlearning.stop_rule import STOP_REASONS

    if trainer.is_world_process_zero():
        print(
            f"{trainer.state.global_step} steps; stopped because {STOP_REASONS[trainer.stop_reason]}; "
            f"saved in {trainer.args.output_dir}"
        )
