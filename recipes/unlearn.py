"""Unlearns the forget rows from a trained model, and stops by itself.

    accelerate launch recipes/unlearn.py --config recipes/text/people_llama.yaml
    python recipes/unlearn.py --config recipes/text/people_llama.yaml --start original
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not recipes/, where evaluate.py would hide the library

from recipes import common


def unlearn(script: common.UnlearnScript, data, model_args, args, prepared: common.Prepared | None = None):
    """Unlearns from the model that `script` names, saves the result, returns the trainer."""
    from hf_unlearn import UnlearnTrainer

    if script.start not in ("ready", "original"):
        raise ValueError(f"--start is {script.start!r}; it must be ready or original.")
    source = model_args.model_name_or_path or str(Path(args.output_dir, script.start))
    if not model_args.model_name_or_path and not Path(source, "config.json").is_file():
        if not Path(source, "adapter_config.json").is_file():
            raise ValueError(
                f"There is no model in {source}. Train it first, by recipes/ready.py with the same --config and "
                f"--role {script.start}, or name one by --model_name_or_path."
            )
    prepared = prepared or common.prepare(data, model_args, source)
    role = "ready_unlearned" if script.start == "ready" else "unlearned"
    args.output_dir = str(Path(args.output_dir, role))
    trainer = UnlearnTrainer(
        source,
        args,
        prepared.splits["forget"],
        prepared.splits["retain"],
        prepared.splits["unseen"],
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
    parsed = common.parse("unlearn", common.UnlearnScript, argv, "UnlearnConfig", __doc__)
    trainer = unlearn(*parsed)
    from hf_unlearn.schedule import STOP_REASONS

    print(
        f"{trainer.state.global_step} steps; stopped because {STOP_REASONS[trainer.stop_reason]}; "
        f"saved in {trainer.args.output_dir}"
    )


if __name__ == "__main__":
    common.run(main)
