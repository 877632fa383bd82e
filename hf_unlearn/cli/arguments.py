"""The flags of the verbs, beside those of `ReadyConfig` and `UnlearnConfig`. Light, since `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial

from ..evaluation.roles import ROLES as ROLES
from ..memory.run import Run
from ..utils.checks import Wrong, number, whole
from .evaluate_arguments import EvaluateArguments as EvaluateArguments
from .evaluate_arguments import attack_flags as attack_flags
from .evaluate_arguments import benchmark_flags as benchmark_flags
from .from_flags import FromFlags
from .model_arguments import ModelArguments as ModelArguments

TASKS = ("causal_lm", "sequence_classification", "image_classification", "audio_classification")
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
class DataArguments(FromFlags):
    """Which rows, and which of them are to be forgotten. The same values give the same split for all verbs."""

    task: str = field(
        default="causal_lm",
        metadata={"metavar": "TASK", "help": f"What the model does with a row: {', '.join(TASKS)}."},
    )
    dataset_name: str = field(
        default="people",
        metadata={
            "help": "Where the rows come from: people or digits (embedded, for a first try); a .jsonl, .json, .csv or "
            ".parquet file (the first three also with .gz); a folder or a quoted pattern of such files; a hub id; "
            "tofu, banking77, cifar10 or fsdd with --data_files."
        },
    )
    data_files: str | None = field(
        default=None,
        metadata={
            "metavar": "FILES",
            "help": "Local file, folder or pattern to read the rows from, or several, separated by commas. Needed for "
            "tofu, banking77, cifar10 and fsdd.",
        },
    )
    dataset_config: str | None = field(
        default=None,
        metadata={"help": "Of a hub id with several configurations, the one to read, such as main or en."},
    )
    dataset_split: str | None = field(
        default=None,
        metadata={"help": "Split to train on and to take rows out of, such as train or train[:1000]. Default: train."},
    )
    dataset_revision: str | None = field(
        default=None,
        metadata={"help": "Of a hub id, the branch, tag or commit to read. A commit keeps the rows the same."},
    )
    limit: int | None = field(
        default=None, metadata={"help": "Read only the first N rows. Set it to try a command out."}
    )
    test_split: str | None = field(
        default=None,
        metadata={"help": "Split of the same data set, such as test, that accuracy is measured on and no model sees."},
    )
    test_fraction: float = field(
        default=0.0, metadata={"help": "Share of the rows to hold out for that, where there is no such split."}
    )
    question_column: str = field(
        default="question",
        metadata={"metavar": "COLUMN", "help": "causal_lm: column with the context, which is not learnt."},
    )
    answer_column: str = field(
        default="answer", metadata={"metavar": "COLUMN", "help": "causal_lm: column with what is learnt."}
    )
    text_column: str = field(
        default="text", metadata={"metavar": "COLUMN", "help": "sequence_classification: column with the text."}
    )
    image_column: str = field(
        default="image", metadata={"metavar": "COLUMN", "help": "image_classification: column with the image."}
    )
    audio_column: str = field(
        default="audio", metadata={"metavar": "COLUMN", "help": "audio_classification: column with the recording."}
    )
    label_column: str = field(
        default="label",
        metadata={
            "metavar": "COLUMN",
            "help": "Classifiers: column with the class; where it holds lists, a row has several labels, each of them "
            "there or not.",
        },
    )
    label_columns: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "COLUMN",
            "help": "Classifiers of several labels a row: columns of 0 and 1, one for each label and called as it is, "
            "instead of --label_column.",
        },
    )
    label_separator: str | None = field(
        default=None,
        metadata={
            "metavar": "SIGN",
            "help": "Classifiers of several labels a row: what stands between them in --label_column, such as ','.",
        },
    )
    skip_broken: bool = field(
        default=False,
        metadata={
            "help": "Images and sound: leave out rows whose file cannot be read, and count them. Default: they are "
            "named, and nothing runs."
        },
    )
    sampling_rate: int = field(
        default=16_000,
        metadata={"help": "Sound: rate in Hz that a new model takes; recordings of another rate are resampled."},
    )
    max_seconds: float = field(
        default=1.0, metadata={"help": "Sound: length of every row; longer recordings are cut, shorter ones padded."}
    )
    max_length: int = field(
        default=256, metadata={"help": "Text: tokens of a row at most; longer ones are cut. Lower it to save memory."}
    )
    forget_ids: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "FILE|ID",
            "help": "Ids of the rows to forget: a file with one id a line, or a few ids. On the command line it wins "
            "over whichever rows a YAML file names.",
        },
    )
    forget_where: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "COLUMN=VALUE",
            "help": "Forget the rows whose column has this value, such as customer=4711 or 'name=Smith, John'. With "
            "several columns all must hold; a column named twice may have either value. Wins as --forget_ids does.",
        },
    )
    forget_by: str = field(
        default="column",
        metadata={
            "metavar": "column|id|class|random",
            "help": "How the rows to forget are named, where not by the two above: column (by values of "
            "--forget_column, such as a person), id, class, or random (single rows, drawn).",
        },
    )
    forget_column: str | None = field(
        default=None,
        metadata={
            "metavar": "COLUMN",
            "help": "Column that holds the values to forget. Default: for class --label_column, for id `id`.",
        },
    )
    forget_values: list[str] | None = field(
        default=None,
        metadata={"metavar": "VALUE", "help": "Values, ids or classes whose rows are to be forgotten."},
    )
    forget_fraction: float | None = field(
        default=None,
        metadata={
            "help": "Instead of --forget_values: share of the values, or of the rows, that is drawn to be forgotten."
        },
    )
    unseen: float = field(
        default=0.1,
        metadata={
            "help": "Share of the rows that is never trained on. Their mean loss is the target that the forget rows' "
            "loss should reach. Raise it where this leaves only few rows: a mean over few rows is uncertain."
        },
    )
    unseen_ids: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "ID",
            "help": "Instead of --unseen: ids of the rows that were kept out of the training. Give them where rows are "
            "asked for in another way than at the training: the share would be another draw.",
        },
    )
    unseen_group: str | None = field(
        default=None,
        metadata={
            "metavar": "COLUMN",
            "help": "Column, such as person or speaker: the unseen rows are then all rows of some of its values. "
            "Default: single rows, or with --forget_by column those of --forget_column.",
        },
    )
    deleted: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "ID",
            "help": "Ids of rows that earlier requests have named. They are left out, so that they are not learned "
            "again as rows to keep. Give them, and start from the unlearned model, where a second request follows.",
        },
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the split and of what is drawn to be forgotten."})


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
