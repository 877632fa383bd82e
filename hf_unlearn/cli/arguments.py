"""The flags of the verbs, beside those of `ReadyConfig` and `UnlearnConfig`. Light, since `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial

from ..evaluation.roles import ROLES as ROLES
from ..memory.run import Run
from ..utils.checks import Wrong, number, whole
from .data_arguments import TASKS as TASKS
from .data_arguments import DataArguments as DataArguments
from .evaluate_arguments import EvaluateArguments as EvaluateArguments
from .evaluate_arguments import attack_flags as attack_flags
from .evaluate_arguments import benchmark_flags as benchmark_flags
from .from_flags import FromFlags
from .model_arguments import ModelArguments as ModelArguments

TRAINED = ("ready", "original", "retrained", "retrained_again")  # roles that `ready` trains
IN_PARTS = ("forget_where",)  # lists that a command line may give one by one: --forget_where a=1 --forget_where b=2
BEGINNINGS = ("start", "snapshot")  # that `verify` trains from
STARTS = {"ready": "ready_unlearned", "original": "unlearned"}  # role that `unlearn` starts from -> role of its result

RANGES = {  # flag -> check of its value; those of the split, the model and the attacks are checked there
    "limit": partial(whole, low=1),
    "test_fraction": partial(number, low=0, high=1),
    "sampling_rate": partial(whole, low=1),
    "max_seconds": partial(number, low=0, open_low=True),
    "max_length": partial(whole, low=1),
    "stride": partial(whole, low=1),
    "split_seed": partial(whole, low=0),
    "lora_alpha": partial(whole, low=1),
    "lora_dropout": partial(number, low=0, high=1, open_high=True),
    "per_device_eval_batch_size": partial(whole, low=1),
    "max_rows": partial(whole, low=1),
    "seed": partial(whole, low=0),
    "ask": partial(number, low=0, open_low=True),
}


def range_problems(arguments) -> list[Wrong]:
    """What is wrong with the numbers of one of the dataclasses below."""
    found = vars(arguments)
    checked = [name for name in RANGES if found.get(name) is not None]
    return [problem for name in checked for problem in RANGES[name](name, found[name])]


@dataclass
class ReadyArguments(FromFlags):
    """What `ready` trains. The result goes to OUTPUT_DIR/ROLE."""

    role: str = field(
        default="ready",
        metadata={
            "metavar": "ROLE",
            "help": "What to train: ready; or, to compare with, original (plain training), retrained (plain, without "
            "the forget rows) or retrained_again (the same with the next seed: how far two retrained models differ).",
        },
    )
    revocable: str = field(
        default="named",
        metadata={
            "metavar": "named|any",
            "help": "Rows that a later request may name: named (those that the split calls forget), or any, where "
            "nobody can say beforehand who will ask.",
        },
    )


@dataclass
class UnlearnArguments(FromFlags):
    """What `unlearn` starts from: OUTPUT_DIR/START, or the model that its command line names."""

    start: str = field(
        default="ready",
        metadata={
            "metavar": "|".join(STARTS),
            "help": "Model in OUTPUT_DIR to start from: ready (the result goes to OUTPUT_DIR/ready_unlearned) or "
            "original (OUTPUT_DIR/unlearned). For another model give --model_name_or_path instead: the result is "
            "OUTPUT_DIR/ready_unlearned if its readiness.json says that it is ready, else OUTPUT_DIR/unlearned.",
        },
    )
    general_dataset: str = field(
        default="auto",
        metadata={
            "metavar": "auto|none|FILE|HUB_ID",
            "help": "Texts or chats that no row stands for, by which a language model keeps its general ability, and "
            "which is measured on half of them. auto: the model writes some itself before the first step; none: none. "
            "A request that is replayed needs none.",
        },
    )


SALT_FILE = {
    "metavar": "FILE",
    "help": "The owner's salt, which opens the plan, where it is not in the model's folder.",
}
SNAPSHOTS = {
    "metavar": "FOLDER|hf://REPOSITORY",
    "help": "Where the snapshots are, if not where the training left them.",
}


@dataclass
class PlanArguments(FromFlags):
    """What `plan` weighs: every way to serve a request; or, before a training, its tail and slices."""

    readiness: str | None = field(
        default=None,
        metadata={
            "metavar": "MODEL",
            "help": 'Model that was trained with `readiness="replay"`: a folder or hub id. Default: OUTPUT_DIR/ready. '
            "In a YAML file this flag is `plan.readiness`; a plain `readiness` there is that of the training.",
        },
    )
    ids: list[str] | None = field(
        default=None,
        metadata={"metavar": "ID", "help": "Ids of the rows that are asked for. Default: the recipe's forget rows."},
    )
    ids_file: str | None = field(
        default=None, metadata={"metavar": "FILE", "help": "Instead of --ids: a file with one id a line."}
    )
    salt_file: str | None = field(default=None, metadata=SALT_FILE)
    snapshots: str | None = field(default=None, metadata=SNAPSHOTS)
    ask: float | None = field(
        default=None,
        metadata={
            "help": "Before training: requests a year that each group of revocable rows is expected to make, such as "
            "0.02. What requests would cost is then said for several tails and slices of the recipe's training; with "
            "--ask_weight COLUMN the groups ask in proportion to that column."
        },
    )
    json: bool = field(default=False, metadata={"help": "Print JSON instead of the table."})
    picture: str | None = field(
        default=None, metadata={"metavar": "FILE", "help": "Draw the costs into this file, an .svg, too."}
    )


@dataclass
class VerifyArguments(FromFlags):
    """What `verify` repeats: the training of a model by its plan, without the rows that were deleted."""

    readiness: str | None = field(
        default=None,
        metadata={
            "metavar": "MODEL",
            "help": "Model to verify, a folder: one that a replay has made, or one just trained with "
            '`readiness="replay"`. Default: OUTPUT_DIR/ready_unlearned, or where there is none OUTPUT_DIR/ready. In a '
            "YAML file this flag is `verify.readiness`.",
        },
    )
    from_: str = field(
        default="start",
        metadata={
            "metavar": "|".join(BEGINNINGS),
            "help": "Where to begin: start, with the model that the recipe began with, which trusts nothing; or "
            "snapshot, the first that the training has left, which is shorter and trusts that it is what it says.",
        },
    )
    salt_file: str | None = field(default=None, metadata=SALT_FILE)
    snapshots: str | None = field(default=None, metadata=SNAPSHOTS)
    record: bool = field(
        default=True,
        metadata={
            "help": "Write into the model's record and card that it has passed; one that was replayed on another "
            "version or device than it was trained on is exact from then on. --no_record writes nothing."
        },
    )


KINDS = {  # verb -> dataclasses with its flags, beside its training config
    "ready": (ReadyArguments, DataArguments, ModelArguments),
    "unlearn": (UnlearnArguments, DataArguments, ModelArguments),
    "plan": (PlanArguments, DataArguments, ModelArguments),
    "verify": (VerifyArguments, DataArguments, ModelArguments),
    "evaluate": (EvaluateArguments, DataArguments, ModelArguments),
}
BESIDE_RECIPE = ("plan", "verify")  # verbs whose own flags stand beside those of a recipe for another one
ESTIMATE = frozenset(  # flags of `memory`, which has dataclasses of its own
    ["memory", "json", *(name for one in fields(Run) for name in (one.name, f"no_{one.name}"))]
)
VERBS = (*KINDS, "memory")  # those that read YAML keys like `ready.seed`
CONFIGS = {"ready": "ReadyConfig", "unlearn": "UnlearnConfig"}  # verb -> name of its training config in `hf_unlearn`
OF_TRAINING_ALONE = {"unlearn": ("num_train_epochs",)}  # verb -> what it refuses, and leaves to `ready` as a plain key
TRAINS_NOTHING = ("--use_cpu", "true")  # beside a recipe whose training is not run here: its bf16 asks for no GPU
