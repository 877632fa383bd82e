"""The flags of the rows, for all verbs. Light, since `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .from_flags import FromFlags

TASKS = ("causal_lm", "sequence_classification", "image_classification", "audio_classification")


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
        default=None,
        metadata={
            "help": "Read only the first N rows. Set it on the command line to try a command out: a report then claims "
            "nothing. In a file these rows are the task's."
        },
    )
    test_split: str | None = field(
        default=None,
        metadata={"help": "Split of the same data set, such as test, that accuracy is measured on and no model sees."},
    )
    test_fraction: float = field(
        default=0.0, metadata={"help": "Share of the rows to hold out for that, where there is no such split."}
    )
    messages_column: str = field(
        default="messages",
        metadata={
            "metavar": "COLUMN",
            "help": "causal_lm: column with a chat, a list of role and content; the assistant's turns are learnt.",
        },
    )
    prompt_column: str = field(
        default="prompt",
        metadata={
            "metavar": "COLUMN",
            "help": "causal_lm: column with what stands before --completion_column, which is learnt.",
        },
    )
    completion_column: str = field(
        default="completion",
        metadata={"metavar": "COLUMN", "help": "causal_lm: column with what is learnt behind --prompt_column."},
    )
    question_column: str = field(
        default="question",
        metadata={"metavar": "COLUMN", "help": "causal_lm: column with the context, which is not learnt."},
    )
    answer_column: str = field(
        default="answer", metadata={"metavar": "COLUMN", "help": "causal_lm: column with what is learnt."}
    )
    instruction_column: str = field(
        default="instruction",
        metadata={"metavar": "COLUMN", "help": "causal_lm: column with a task; --output_column is learnt."},
    )
    input_column: str = field(
        default="input",
        metadata={"metavar": "COLUMN", "help": "causal_lm: column with what the task is about, where a row has that."},
    )
    output_column: str = field(
        default="output",
        metadata={"metavar": "COLUMN", "help": "causal_lm: column with the answer to --instruction_column."},
    )
    text_column: str = field(
        default="text",
        metadata={
            "metavar": "COLUMN",
            "help": "Column with the text: of sequence_classification, and of causal_lm that of a whole document, "
            "where the rows have none of the columns above.",
        },
    )
    prompt: str | None = field(
        default=None,
        metadata={
            "metavar": "TEMPLATE",
            "help": "causal_lm: what stands before an answer, with {question} in its place, for questions and "
            "instructions, instead of the tokenizer's chat template. Default: that of the model's own training by "
            "these verbs; where there is neither, Question: {question}\\nAnswer:",
        },
    )
    stride: int | None = field(
        default=None,
        metadata={
            "help": "causal_lm: of documents, tokens from the beginning of a window to that of the next. Lower it to "
            "give tokens at a border more context. Default: --max_length."
        },
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
        default=1.0,
        metadata={
            "help": "Sound: length of every row; longer recordings are cut, shorter ones padded. Default: that of the "
            "model's own training by these verbs, else 1."
        },
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Text: tokens of a row at most; longer ones are cut, and how many are is said. Lower it to save "
            "memory. Default: that of the model's own training by these verbs, else the 99th percentile of the rows "
            "that nobody may ask for, at most what the model takes; of documents at most 1,024."
        },
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
            "metavar": "FILE|ID",
            "help": "Instead of --unseen: ids, or a file with one a line, of the rows that were kept out of the "
            "training. Give them where rows are asked for in another way than at the training: the share would be "
            "another draw.",
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
            "metavar": "FILE|ID",
            "help": "Ids of rows that earlier requests have named, or a file with one a line. They are left out, so "
            "that they are not learned again as rows to keep. Give them, and start from the unlearned model, where a "
            "second request follows.",
        },
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the split and of what is drawn to be forgotten."})
