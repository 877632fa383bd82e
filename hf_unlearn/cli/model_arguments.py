"""The flags that say which model. Light, since `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .from_flags import FromFlags


@dataclass
class ModelArguments(FromFlags):
    """Which model: an existing one, or a new one from a small config. And whether an adapter is trained."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "metavar": "MODEL",
            "help": "Hub id or folder of a model to start from; it brings its own tokenizer. In a YAML file it is what "
            "`ready` starts from; `unlearn` starts from OUTPUT_DIR/START, unless its own command line names a model.",
        },
    )
    model_type: str | None = field(
        default=None,
        metadata={
            "metavar": "TYPE",
            "help": "Instead of --model_name_or_path: type of a new model, as Transformers calls it: llama, vit, ….",
        },
    )
    config_overrides: str = field(
        default="",
        metadata={
            "metavar": "KEY=N,…",
            "help": "With --model_type: sizes of the new model, as its config calls them: "
            "hidden_size=128,num_hidden_layers=3",
        },
    )
    vocab_size: int = field(
        default=2000, metadata={"help": "Tokens of the tokenizer that is trained on the rows for a new text model."}
    )
    revision: str | None = field(
        default=None,
        metadata={
            "metavar": "COMMIT",
            "help": "Branch, tag or commit of MODEL on the hub, and of its tokenizer. Name a commit where a training "
            "is to be repeated: a branch moves.",
        },
    )
    dtype: str | None = field(
        default=None,
        metadata={
            "metavar": "float32|bfloat16|auto",
            "help": "Type of the weights; auto: that of the files. Default: `ready` loads float32, which a training of "
            "all weights needs (--bf16 computes in bfloat16 all the same), the other verbs what the files hold and, "
            "below an adapter, what it was trained with. Set bfloat16 to halve a base below an adapter.",
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "metavar": "KERNEL",
            "help": "Attention kernel: sdpa, eager, flash_attention_2, …. Default: the model's. A replay takes the one "
            "that its training had.",
        },
    )
    trust_remote_code: bool = field(
        default=False,
        metadata={"help": "Run the code that comes with MODEL, which may do anything here. Read it first."},
    )
    lora_r: int = field(
        default=0,
        metadata={"help": "Rank of a LoRA adapter that is trained instead of all weights, such as 16; 0: all weights."},
    )
    lora_alpha: int = field(
        default=32,
        metadata={
            "help": "LoRA's scale: its update is multiplied by alpha / rank, with --use_rslora by alpha / √rank."
        },
    )
    lora_dropout: float = field(
        default=0.0,
        metadata={"help": "Share of an adapter's inputs that is dropped in training. Raise it if it overfits."},
    )
    lora_target_modules: str = field(
        default="all-linear",
        metadata={
            "metavar": "MODULES",
            "help": "Modules that get an adapter: names separated by commas, all-linear, or a pattern that whole names "
            "match, such as '.*\\.(q|v)_proj'.",
        },
    )
    lora_modules_to_save: str | None = field(
        default=None,
        metadata={
            "metavar": "MODULES",
            "help": "Modules, separated by commas, that are trained whole and saved with the adapter, such as lm_head. "
            "A head that is new is among them by itself.",
        },
    )
    use_rslora: bool = field(
        default=False,
        metadata={"help": "Rank-stabilised LoRA: the scale is alpha / √rank. For high ranks, from 64 or so."},
    )
    use_dora: bool = field(
        default=False,
        metadata={"help": "DoRA: the lengths of the weights' rows are learnt apart. Slower; for low ranks."},
    )
    load_in_4bit: bool = field(
        default=False,
        metadata={
            "help": "Pack the model's linear layers in 4 bits below the adapter (QLoRA), with --lora_r: a quarter of "
            'the memory of bfloat16. Needs bitsandbytes (pip install "hf_unlearn[4bit]").'
        },
    )
    bnb_4bit_quant_type: str = field(
        default="nf4", metadata={"metavar": "nf4|fp4", "help": "The 16 numbers that 4 bits stand for. Leave it at nf4."}
    )
    bnb_4bit_use_double_quant: bool = field(
        default=False, metadata={"help": "Pack the scales, too: 0.4 bits a weight less."}
    )
    bnb_4bit_compute_dtype: str | None = field(
        default=None,
        metadata={
            "metavar": "float32|bfloat16",
            "help": "Type that packed weights are multiplied in; set bfloat16 with --bf16. Default: --dtype, else "
            "float32.",
        },
    )
