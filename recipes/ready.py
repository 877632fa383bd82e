"""Trains a model ready for deletion requests, or a plain or retrained one to compare with.

    accelerate launch recipes/ready.py --config recipes/text/people_llama.yaml
    python recipes/ready.py --config recipes/text/people_llama.yaml --role original
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not recipes/, where evaluate.py would hide the library

from recipes import common


def train(script: common.ReadyScript, data, model_args, args, prepared: common.Prepared | None = None):
    """Trains the model of `script.role` and saves it in `args.output_dir`/role; returns the trainer."""
    from datasets import concatenate_datasets

    from hf_unlearn import ReadyTrainer

    if script.role not in ("ready", "original", "retrained"):
        raise ValueError(f"--role is {script.role!r}; it must be ready, original or retrained.")
    if script.revocable not in ("named", "any"):
        raise ValueError(f"--revocable is {script.revocable!r}; it must be named or any.")
    prepared = prepared or common.prepare(data, model_args, model_args.model_name_or_path)
    args.output_dir = str(Path(args.output_dir, script.role))
    if script.role != "ready":
        args.lambda_efficiency = args.lambda_retention = args.lambda_resistance = 0.0
    rows = prepared.splits["retain"].add_column("revocable", [False] * len(prepared.splits["retain"]))
    if script.role != "retrained":
        forget = prepared.splits["forget"].add_column("revocable", [True] * len(prepared.splits["forget"]))
        rows = concatenate_datasets([forget, rows])
    named = script.revocable == "named" and script.role != "retrained"
    trainer = ReadyTrainer(
        common.new_model(data, model_args, prepared, args.seed),
        args,
        rows,
        revocable="revocable" if named else None,
        eval_dataset=prepared.splits.get("test", prepared.splits["unseen"]),
        processing_class=prepared.processing_class,
        peft_config=common.adapter(data, model_args),
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()
    trainer.save_state()
    trainer.create_model_card()
    if args.push_to_hub:
        trainer.push_to_hub()
    return trainer


def main(argv: list[str]) -> None:
    parsed = common.parse("ready", common.ReadyScript, argv, "ReadyConfig", __doc__)
    trainer = train(*parsed)
    print(f"{trainer.state.global_step} steps; saved in {trainer.args.output_dir}")


if __name__ == "__main__":
    common.run(main)
