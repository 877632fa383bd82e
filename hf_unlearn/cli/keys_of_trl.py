"""Keys that people bring from TRL's scripts: what they are called here, and those that cannot be."""

from __future__ import annotations

RENAMED = {  # there -> here
    "model_revision": "revision",
    "torch_dtype": "dtype",
    "max_seq_length": "max_length",
    "use_bnb_nested_quant": "bnb_4bit_use_double_quant",
    "lora_use_rslora": "use_rslora",
    "lora_use_dora": "use_dora",
}
ONE_SEQUENCE = (
    "puts several rows into one sequence. A request takes rows out, and its losses and masks are those of single rows; "
    "leave it out. Rows of like lengths waste little padding: `train_sampling_strategy: group_by_length`"
)
REFUSED = {  # key -> why it cannot be
    "packing": ONE_SEQUENCE,
    "eval_packing": ONE_SEQUENCE,
    "padding_free": ONE_SEQUENCE,
    "use_peft": "is not needed here: `lora_r` above 0 trains an adapter. Leave it out",
    "load_in_8bit": "is no way to load a model here: 4 bits take less and train as well (`load_in_4bit`). Leave it out",
}
IDLE = ("false", "null", "none", "no", "off")


def said_of(name: str, words: list[str]) -> str | None:
    """What to say of a key of TRL's, after its name; None: it is none, or asks for nothing."""
    if name in RENAMED:
        return f"is called `{RENAMED[name]}` here."
    if name in REFUSED and not is_idle(name, words):
        return f"{REFUSED[name]}."
    return None


def is_idle(name: str, words: list[str]) -> bool:
    """Whether a key of TRL's is switched off, so that a file of both may keep it."""
    return name in REFUSED and [word.lower() for word in words] in [[word] for word in IDLE]
