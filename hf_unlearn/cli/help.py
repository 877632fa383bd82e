"""`--help` of the verbs: flags by subject, the Trainer's own last. Imports no torch, so that it answers at once."""

from __future__ import annotations

import argparse
import enum
import re
import typing
from dataclasses import MISSING, Field, fields

from ..options import ReadyOptions, UnlearnOptions
from .arguments import (
    CONFIGS,
    KINDS,
    OF_TRAINING_ALONE,
    DataArguments,
    EvaluateArguments,
    ModelArguments,
    PlanArguments,
    ReadyArguments,
    UnlearnArguments,
    VerifyArguments,
    attack_flags,
    benchmark_flags,
)

FIRST_OPTIONS = [f"{owner}_{option.name}" for (owner, option, _), *_ in (attack_flags(), benchmark_flags())]
SUBJECTS = {  # dataclass -> {subject: the first of its flags}, in the order of the dataclass
    DataArguments: {
        "rows": "task",
        "columns and lengths of the rows": "messages_column",
        "rows to forget": "forget_ids",
    },
    ModelArguments: {"model": "model_name_or_path", "adapter": "lora_r", "a base in 4 bits": "load_in_4bit"},
    ReadyArguments: {"what is trained": "role"},
    ReadyOptions: {"exact deletion": "readiness", "simulated requests": "inner_lr"},
    UnlearnArguments: {"what is unlearned from": "start"},
    UnlearnOptions: {"request": "objective"},
    PlanArguments: {"request": "readiness", "before a training": "ask", "what is written": "json"},
    VerifyArguments: {"what is verified": "readiness"},
    EvaluateArguments: {
        "evaluation": "output_dir",
        "options of the attacks": FIRST_OPTIONS[0],
        "options of the benchmarks": FIRST_OPTIONS[1],
    },
}
OPTIONS = {"ready": ReadyOptions, "unlearn": UnlearnOptions}  # verb -> our fields of its training config
BOOL = "true|false"
TRAINER = {  # those of `TrainingArguments` that people set -> (what it takes, what it does)
    "output_dir": (
        "FOLDER",
        "Folder for the models of all verbs, one folder a role: --output_dir outputs/mine gets outputs/mine/ready, "
        "outputs/mine/ready_unlearned, ….",
    ),
    "num_train_epochs": ("X", "How often the training goes over all rows. Raise it where the loss still falls."),
    "max_steps": ("N", "End after so many steps, whatever else says how long. Set it to 2 to try a command out."),
    "per_device_train_batch_size": (
        "N",
        "Rows of a step on one device. Lower it where memory runs out, and raise --gradient_accumulation_steps by the "
        "same factor.",
    ),
    "gradient_accumulation_steps": (
        "N",
        "Batches that go one after another into one step. Raise it for larger steps in the same memory.",
    ),
    "learning_rate": ("X", "Step size at its highest. Raise it where the loss hardly falls, lower it where it jumps."),
    "lr_scheduler_type": ("NAME", "How the step size goes on from its highest: constant, linear or cosine to 0, …."),
    "warmup_steps": ("N", "Steps in which the step size rises to its highest. Set some where a training starts badly."),
    "weight_decay": ("X", "Share of each weight that a step takes off, times the step size: against overfitting."),
    "bf16": (BOOL, "Compute in bfloat16, with float32 weights: faster and smaller on GPUs that have it."),
    "gradient_checkpointing": (
        BOOL,
        "Compute activations a second time instead of keeping them: less memory, about a third more time.",
    ),
    "logging_steps": ("N", "Steps between two lines of the log. Lower it to watch a short run."),
    "save_strategy": (
        "no|steps|epoch",
        "When to save checkpoints, so that a killed run can go on (--resume_from_checkpoint); no: only the model at "
        "the end.",
    ),
    "resume_from_checkpoint": (
        "true|FOLDER",
        "Go on with a killed run: true, from the last checkpoint in its folder; or from the checkpoint in FOLDER.",
    ),
    "report_to": ("NAME", "Where the log goes beside the terminal: tensorboard, wandb, …, or none."),
    "seed": ("N", "Seed of the weights that are drawn and of the rows' order. Change it to see how far runs differ."),
    "use_cpu": (BOOL, "Run on the CPU though there is a GPU."),
    "push_to_hub": (BOOL, "Push the model, its card and its evidence to the hub at the end; needs a login there."),
    "hub_model_id": ("NAME", "Name of the model on the hub, such as me/my-model. Default: the folder's, as yours."),
}
IN_A_REQUEST = {  # what TRAINER has to say differently for `unlearn`
    "learning_rate": "Step size. Raise it where all passes end before the rows are forgotten, lower it where a "
    "budget is spent. Where nobody sets it, an adapter alone takes 0.0003 in a language model and 0.001 in others.",
    "weight_decay": "Share of each weight that a step takes off, times the step size. Leave it at 0: it moves all that "
    "is to be kept, too.",
}
DEFAULTS = {  # of TRAINER's, by verb
    "ready": {
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 8,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.0,
        "gradient_accumulation_steps": 1,
        "report_to": "none",
        "logging_steps": 500,
        "save_strategy": "steps",
    },
    "unlearn": {
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "gradient_accumulation_steps": 1,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
    },
}


def help_text(verb: str, program: str, description: str, everything: bool = False) -> str:
    """
    What `--help` says of a verb.

    Args:
        program: how the verb was started: "hf-unlearn ready", "python recipes/ready.py".
        everything: all of the Trainer's arguments, too, which takes as long as importing torch; `evaluate` has none.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [--config FILE.yaml] [--FLAG VALUE …]",
        description=description.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    general = parser.add_argument_group("how flags are given")
    yaml = "Flat YAML file with the same keys; flags win over it. One file serves all verbs: a key that only others "
    yaml += "know is left to them, and one like `ready.seed` is for that verb alone."
    _add(general, "config", "FILE", yaml)
    said = (
        "Print what is read of flags, file and defaults, and where each value is from, as YAML for --config; then end."
    )
    _add(general, "print_config", "", said)
    if verb in CONFIGS:
        _add(general, "help", "[all]", f"This text; `{program} --help all` lists every argument of the Trainer, too.")
    else:
        _add(general, "help", "", "This text.")
    for kind in kinds_in_help(verb):
        for subject, some in by_subject(kind).items():
            group = parser.add_argument_group(subject)
            for one in some:
                _add(group, one.name.rstrip("_"), kind_of(one), one.metadata["help"] + default_of(one))
    if verb in CONFIGS:
        _add_trainer(parser, verb, program, everything)
    return parser.format_help()


def kinds_in_help(verb: str) -> list[type]:
    """Dataclasses whose flags the help of a verb lists by subject, in its order: of the training config our part."""
    return [*KINDS[verb], *([OPTIONS[verb]] if verb in OPTIONS else [])]


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

        ours = {f.name for f in fields(OPTIONS[verb])}
        config = getattr(hf_unlearn, CONFIGS[verb])
        kinds = typing.get_type_hints(config)
        group = parser.add_argument_group("all arguments of the Trainer (transformers.TrainingArguments)")
        for one in fields(config):
            if one.init and one.name not in ours:
                metavar = TRAINER[one.name][0] if one.name in TRAINER else kind_of(one, kinds[one.name])
                _add(group, one.name, metavar, str(one.metadata.get("help", "")) + default_of(one))
        return
    group = parser.add_argument_group(
        "the Trainer's own (transformers.TrainingArguments)",
        f"Those that people set; all of its arguments work, `{program} --help all` lists them.",
    )
    for name, (metavar, text) in TRAINER.items():
        if name not in OF_TRAINING_ALONE.get(verb, ()):
            known = DEFAULTS[verb].get(name)
            text = IN_A_REQUEST.get(name, text) if verb == "unlearn" else text
            _add(group, name, metavar, text + ("" if known is None else f" Default: {known}."))


def _add(group, name: str, metavar: str, text: str) -> None:
    group.add_argument(f"--{name}", metavar=metavar, help=re.sub(r"\s+", " ", text).replace("%", "%%").strip())


def kind_of(one: Field, kind=None) -> str:
    """
    What a flag takes: the metavar of its field, or a word for its type.

    Args:
        kind: the type itself, where the field has but its name.
    """
    words = str(kind or one.type)
    is_list = words.startswith("list")
    if "metavar" in one.metadata:
        return one.metadata["metavar"] + (" …" if is_list else "")
    if choices := one.metadata.get("choices") or choices_of(kind):
        return "|".join(map(str, choices)) if len(choices) < 5 else "NAME"
    if is_list:
        return "NAME …"
    if "dict" in words:
        return "JSON"
    types = set(re.findall(r"\w+", words))
    return next((word for name, word in (("bool", BOOL), ("int", "N"), ("float", "X")) if name in types), "NAME")


def choices_of(kind) -> list[str]:
    """Values of the Enum that a type is, or has among others."""
    enums = [one for one in (kind, *typing.get_args(kind)) if isinstance(one, type) and issubclass(one, enum.Enum)]
    return [choice.value for choice in enums[0]] if enums else []


def default_of(one: Field) -> str:
    """ " Default: …", where there is one that the text does not tell."""
    value = one.default
    if value is MISSING or value is None or value == "" or "Default:" in one.metadata.get("help", ""):
        return ""
    if isinstance(value, bool):
        return f" Default: {str(value).lower()}."
    return f" Default: {value:g}." if isinstance(value, float) else f" Default: {value}."
