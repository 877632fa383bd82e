"""`--help` of the verbs: flags by subject, the Trainer's own last. Imports no torch, so that it answers at once."""

from __future__ import annotations

import argparse
import re
from dataclasses import MISSING, Field, fields

from ..options import ReadyOptions, UnlearnOptions
from .arguments import DataArguments, EvaluateArguments, ModelArguments, ReadyArguments, UnlearnArguments

SUBJECTS = {  # dataclass -> {subject: the first of its flags}, in the order of the dataclass
    DataArguments: {
        "rows": "task",
        "columns and lengths of the rows": "question_column",
        "rows to forget": "forget_by",
    },
    ModelArguments: {"model": "model_name_or_path", "adapter": "lora_r"},
    ReadyArguments: {"what is trained": "role"},
    ReadyOptions: {"readiness": "inner_lr"},
    UnlearnArguments: {"what is unlearned from": "start"},
    UnlearnOptions: {"request": "objective"},
    EvaluateArguments: {"evaluation": "output_dir"},
}
KINDS = {  # verb -> dataclasses in the order of its help
    "ready": (ReadyArguments, DataArguments, ModelArguments, ReadyOptions),
    "unlearn": (UnlearnArguments, DataArguments, ModelArguments, UnlearnOptions),
    "evaluate": (EvaluateArguments, DataArguments, ModelArguments),
}
CONFIGS = {"ready": "ReadyConfig", "unlearn": "UnlearnConfig"}
TRAINER = {  # those of `TrainingArguments` that people set, with their defaults where these say anything
    "output_dir": "Folder for the models, one folder a role: --output_dir outputs/mine gets outputs/mine/ready, ….",
    "num_train_epochs": "Epochs of the training.",
    "max_steps": "Steps instead of epochs; set it to 2 to try a command out.",
    "per_device_train_batch_size": "Rows of a step on one device. Lower it where memory runs out, and raise "
    "--gradient_accumulation_steps by the same factor.",
    "gradient_accumulation_steps": "Batches of one optimizer step.",
    "learning_rate": "Peak learning rate.",
    "lr_scheduler_type": "linear, cosine, constant, ….",
    "warmup_steps": "Steps until the peak.",
    "weight_decay": "Weight decay.",
    "bf16": "bfloat16 autocast over float32 weights, on GPUs that have it.",
    "gradient_checkpointing": "Trade time for memory: activations are computed again on the way back.",
    "logging_steps": "Steps between two lines of the log.",
    "save_strategy": "steps or epoch: checkpoints on the way, for a run that may be killed; no: the model at the end.",
    "resume_from_checkpoint": "true: go on from the last checkpoint in the folder; or a checkpoint's folder.",
    "report_to": "none, tensorboard, wandb, ….",
    "seed": "Seed of the weights that are drawn and of the rows' order.",
    "use_cpu": "Run on the CPU though there is a GPU.",
    "push_to_hub": "Push the model, its card and its evidence to the hub.",
    "hub_model_id": "Under this name.",
}
DEFAULTS = {  # of TRAINER's, by verb
    "ready": {
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 8,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "linear",
        "logging_steps": 500,
        "save_strategy": "steps",
    },
    "unlearn": {
        "per_device_train_batch_size": 16,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
    },
}
NOT_SET = {"unlearn": ("num_train_epochs",)}  # refused there


def help_text(verb: str, program: str, description: str, everything: bool = False) -> str:
    """
    What `--help` says of a verb.

    Args:
        program: how the verb was started: "hf-unlearn ready", "python recipes/ready.py".
        everything: all of the Trainer's arguments, too, which takes as long as importing torch.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [--config FILE.yaml] [--FLAG VALUE …]",
        description=description.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    general = parser.add_argument_group("how flags are given")
    yaml = "Flat YAML file with the same keys; flags win over it. A key like `ready.seed` is for that verb alone."
    _add(general, "config", "FILE", yaml)
    _add(general, "help", "[all]", f"This text; `{program} --help all` lists every argument of the Trainer, too.")
    for kind in KINDS[verb]:
        for subject, some in by_subject(kind).items():
            group = parser.add_argument_group(subject)
            for one in some:
                _add(group, one.name, kind_of(one), one.metadata["help"] + default_of(one))
    if verb in CONFIGS:
        _add_trainer(parser, verb, program, everything)
    return parser.format_help()


def by_subject(kind: type) -> dict[str, list[Field]]:
    """Subject -> the fields of a dataclass that belong to it."""
    starts = {first: subject for subject, first in SUBJECTS[kind].items()}
    found: dict[str, list[Field]] = {}
    subject = next(iter(starts.values()))
    for one in fields(kind):
        subject = starts.get(one.name, subject)
        found.setdefault(subject, []).append(one)
    return found


def _add_trainer(parser: argparse.ArgumentParser, verb: str, program: str, everything: bool) -> None:
    if everything:
        import hf_unlearn

        from .. import options

        ours = {f.name for f in fields(getattr(options, CONFIGS[verb].replace("Config", "Options")))}
        group = parser.add_argument_group("all arguments of the Trainer (transformers.TrainingArguments)")
        for one in fields(getattr(hf_unlearn, CONFIGS[verb])):
            if one.init and one.name not in ours:
                _add(group, one.name, "VALUE", str(one.metadata.get("help", "")) + default_of(one))
        return
    group = parser.add_argument_group(
        "the Trainer's own (transformers.TrainingArguments)",
        f"Those that people set; all of its arguments work, `{program} --help all` lists them.",
    )
    for name, text in TRAINER.items():
        if name not in NOT_SET.get(verb, ()):
            known = DEFAULTS[verb].get(name)
            _add(group, name, "VALUE", text + ("" if known is None else f" Default: {known}."))


def _add(group, name: str, metavar: str, text: str) -> None:
    group.add_argument(f"--{name}", metavar=metavar, help=re.sub(r"\s+", " ", text).replace("%", "%%").strip())


def kind_of(one: Field) -> str:
    """What a flag takes, in a word."""
    kind = str(one.type).replace(" | None", "")
    if kind.startswith("list"):
        return "NAME …"
    return {"int": "N", "float": "X", "bool": "true|false"}.get(kind, "NAME")


def default_of(one: Field) -> str:
    """ " Default: …", where there is one that the text does not tell."""
    value = one.default
    if value is MISSING or value is None or value == "" or "Default:" in one.metadata.get("help", ""):
        return ""
    if isinstance(value, bool):
        return f" Default: {str(value).lower()}."
    return f" Default: {value:g}." if isinstance(value, float) else f" Default: {value}."
