"""The flags of the verbs, beside those of `TrainingArguments`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..evaluation import attack_names
from ..evaluation.roles import ROLES as ROLES

VERBS = ("ready", "unlearn", "evaluate")
RELEARNING = {"steps": 30, "learning_rate": 1e-3}  # for the recipes' small models; a hub model wants a smaller rate


@dataclass
class DataArguments:
    """Which rows, and which of them are to be forgotten. The same values for all three scripts give the same split."""

    task: str = field(
        default="causal_lm",
        metadata={"help": "causal_lm, sequence_, image_ or audio_classification."},
    )
    dataset_name: str = field(
        default="people",
        metadata={"help": "people, digits; tofu, banking77, cifar10, fsdd (--data_files); a path; a hub id."},
    )
    data_files: str | None = field(default=None, metadata={"help": "Local file or folder to read the rows from."})
    limit: int | None = field(default=None, metadata={"help": "Read only the first so many rows."})
    test_split: str | None = field(default=None, metadata={"help": "Name of a split to test on, e.g. test."})
    test_fraction: float = field(default=0.0, metadata={"help": "Or: share of the rows to test on."})
    question_column: str = field(default="question", metadata={"help": "causal_lm: what is asked."})
    answer_column: str = field(default="answer", metadata={"help": "causal_lm: what is learnt."})
    text_column: str = field(default="text", metadata={"help": "sequence_classification: the text."})
    image_column: str = field(default="image", metadata={"help": "image_classification: the image."})
    audio_column: str = field(default="audio", metadata={"help": "audio_classification: the recording."})
    sampling_rate: int = field(default=16_000, metadata={"help": "Sound for a new model, in Hz; resampled to it."})
    max_seconds: float = field(default=1.0, metadata={"help": "Sound: the length of a row; longer ones are cut."})
    label_column: str = field(default="label", metadata={"help": "Classifiers: the class."})
    max_length: int = field(default=256, metadata={"help": "Tokens of a row at most."})
    forget_by: str = field(default="column", metadata={"help": "id, class, column or random."})
    forget_column: str | None = field(default=None, metadata={"help": "Column that holds the values."})
    forget_values: list[str] | None = field(default=None, metadata={"help": "Ids, classes or values to forget."})
    forget_fraction: float | None = field(default=None, metadata={"help": "Or: share of rows or of values to forget."})
    unseen_group: str | None = field(default=None, metadata={"help": "Keep whole groups of this column unseen."})
    unseen: float = field(default=0.1, metadata={"help": "Share of the rows that is never trained on."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the split."})


@dataclass
class ModelArguments:
    """Which model: an existing one, or a new one from a small config. And whether an adapter is trained."""

    model_name_or_path: str | None = field(default=None, metadata={"help": "Hub id or folder."})
    model_type: str | None = field(default=None, metadata={"help": "New model of this type: llama, bert, vit, …"})
    config_overrides: str = field(default="", metadata={"help": "Its sizes: hidden_size=128,num_hidden_layers=3"})
    vocab_size: int = field(default=2000, metadata={"help": "Of the tokenizer that is trained for a new text model."})
    lora_r: int = field(default=0, metadata={"help": "Rank of a LoRA adapter to train; 0: all weights."})
    lora_alpha: int = field(default=32, metadata={"help": "Its scale."})
    lora_target_modules: str = field(default="all-linear", metadata={"help": "Its modules, separated by commas."})


@dataclass
class ReadyScript:
    """What `ready.py` trains. The result goes to OUTPUT_DIR/ROLE."""

    role: str = field(
        default="ready",
        metadata={
            "help": "ready; original: plain training; retrained: plain training without the forget rows; "
            "retrained_again: the same with the next seed, which shows how far two retrained models differ."
        },
    )
    revocable: str = field(
        default="named",
        metadata={"help": "named: the rows that the split calls forget are revocable; any: any row may be asked for."},
    )


@dataclass
class UnlearnScript:
    """What `unlearn.py` starts from: --model_name_or_path, or else OUTPUT_DIR/START."""

    start: str = field(
        default="ready",
        metadata={"help": "ready or original; the result goes to OUTPUT_DIR/ready_unlearned or OUTPUT_DIR/unlearned."},
    )


@dataclass
class EvaluateScript:
    """What `evaluate.py` measures: the models found in OUTPUT_DIR, by role, or any by --models."""

    output_dir: str = field(default="outputs", metadata={"help": "Folder with the models; gets the scorecard too."})
    models: list[str] | None = field(
        default=None, metadata={"help": "ROLE=FOLDER or ROLE=HUB_ID, instead of those in OUTPUT_DIR."}
    )
    tables: list[str] | None = field(
        default=None, metadata={"help": "ROLE=FOLDER of saved row tables (OUTPUT_DIR/tables/ROLE) for a model."}
    )
    processing_from: str | None = field(
        default=None, metadata={"help": "Tokenizer or processor for checkpoints that bring none: folder or hub id."}
    )
    attacks: list[str] = field(
        default_factory=attack_names,
        metadata={"help": f"What is done beside the passes: {', '.join(attack_names())}; none."},
    )
    relearn_steps: int = field(
        default=RELEARNING["steps"], metadata={"help": "Steps of each fine-tune of an attacker."}
    )
    relearn_learning_rate: float = field(
        default=RELEARNING["learning_rate"], metadata={"help": "Its learning rate; a hub model wants a smaller one."}
    )
    generate_rows: int = field(default=100, metadata={"help": "Rows of a split that are generated at most."})
    shadows: int = field(
        default=0, metadata={"help": "U-LiRA with so many shadow models, each trained and unlearned by this YAML."}
    )
    fail_on: list[str] | None = field(
        default=None,
        metadata={
            "help": "Gates that must be passed, else the exit status is 3: forget_quality, auc_gap, kept, extraction, "
            "over_forgetting, recovery, quantisation; verdict: the first five."
        },
    )
    title: str | None = field(default=None, metadata={"help": "Name of the task in the scorecard."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Rows a forward pass."})
    seed: int = field(default=0, metadata={"help": "Of the bootstrap, and of the attackers' rows."})
