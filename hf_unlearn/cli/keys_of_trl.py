"""Keys that people bring from TRL's scripts or write first: what they are called here, and those that cannot be."""

from __future__ import annotations

from collections.abc import Collection

RENAMED = {  # there -> here
    "model_revision": "revision",
    "torch_dtype": "dtype",
    "max_seq_length": "max_length",
    "dataset_text_field": "text_column",
    "use_bnb_nested_quant": "bnb_4bit_use_double_quant",
    "lora_use_rslora": "use_rslora",
    "lora_use_dora": "use_dora",
}
SHORT = {  # words that people write first -> what they are called here, for verbs that have it
    "model": "model_name_or_path",
    "dataset": "dataset_name",
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "rank": "lora_r",
}
ONE_SEQUENCE = (
    "puts several rows into one sequence. A request takes rows out, and its losses and masks are those of single rows; "
    "leave it out. Rows of like lengths waste little padding: `train_sampling_strategy: group_by_length`"
)
ALWAYS = {  # key -> what is done here, whatever its value
    "assistant_only_loss": "is not read: of a chat the assistant's turns alone are learnt, always. Leave it out",
    "completion_only_loss": "is not read: the completion alone is learnt, always. Leave it out",
}
REFUSED = {  # key -> why it cannot be
    "packing": ONE_SEQUENCE,
    "eval_packing": ONE_SEQUENCE,
    "padding_free": ONE_SEQUENCE,
    "use_peft": "is not needed here: `lora_r` above 0 trains an adapter. Leave it out",
    "load_in_8bit": "is no way to load a model here: 4 bits take less and train as well (`load_in_4bit`). Leave it out",
}
IDLE = ("false", "null", "none", "no", "off")


def said_of(name: str, words: list[str], known: Collection[str]) -> str | None:
    """
    What to say of a key of TRL's, or of a short word, after its name; None: it is none, or asks for nothing.

    Args:
        known: names of the flags that are there.
    """
    if name in RENAMED or SHORT.get(name) in known:
        return f"is called `{RENAMED.get(name) or SHORT[name]}` here."
    if name in ALWAYS:
        return f"{ALWAYS[name]}."
    if name in REFUSED and not is_idle(name, words):
        return f"{REFUSED[name]}."
    return None


def is_idle(name: str, words: list[str]) -> bool:
    """Whether a key of TRL's is switched off, so that a file of both may keep it."""
    return name in REFUSED and [word.lower() for word in words] in [[word] for word in IDLE]
