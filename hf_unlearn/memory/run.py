"""A run whose memory is estimated: its options and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..options import RESISTANCES
from .optimizers import OPTIMIZERS

TASKS = ("causal_lm", "sequence_classification", "image_classification")
DTYPES = ("auto", "float32", "bfloat16", "bf16-mixed")
ENGINES = ("single", "ddp", "fsdp2", "zero1", "zero2")
REQUEST_ROWS = 16  # the default of `ReadyConfig.request_rows`
VERBS = ("train", "ready", "unlearn")


@dataclass(frozen=True)
class Run:
    """What is to be run. The names are those of `TrainingArguments` and of the recipes, `per_device_` left out."""

    model: str | None = field(
        default=None, metadata={"help": "Folder, hub id or path of a config.json; a folder with an adapter works too."}
    )
    model_type: str | None = field(default=None, metadata={"help": "Or a new model of this type: llama, bert, vit, …"})
    config_overrides: str = field(default="", metadata={"help": "Its sizes: hidden_size=128,num_hidden_layers=3"})
    task: str | None = field(
        default=None, metadata={"help": f"{', '.join(TASKS)}; default: what the config's architecture is for."}
    )
    verb: str = field(default="train", metadata={"help": ", ".join(VERBS) + "; several may be given."})
    peft: str | None = field(
        default=None,
        metadata={"help": "Folder of an adapter, JSON file of its config, or lora:r=16,target_modules=q_proj+v_proj"},
    )
    dtype: str = field(
        default="auto", metadata={"help": f"{', '.join(DTYPES)} (float32 weights, autocast); auto: the config's."}
    )
    batch_size: int = field(default=8, metadata={"help": "Rows of a micro-batch; of forget and of retain each."})
    eval_batch_size: int = field(
        default=8, metadata={"help": "Rows of the looks of unlearning, where these are fewer than `batch_size`."}
    )
    length: int = field(default=512, metadata={"help": "Tokens of a row, padding included."})
    padded: bool | None = field(
        default=None, metadata={"help": "Rows are padded: attention keeps a mask. Default: with several rows."}
    )
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Keep layers' inputs only."})
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa or eager; default: the model's."})
    optim: str = field(default="adamw_torch_fused", metadata={"help": "As in TrainingArguments."})
    engine: str = field(default="single", metadata={"help": ", ".join(ENGINES)})
    processes: int = field(default=1, metadata={"help": "Processes; the estimate is for one of them."})
    request_rows: int | None = field(
        default=None, metadata={"help": "ready: rows of the simulated request; default: 16, or a quarter of the batch."}
    )
    drawn: bool = field(
        default=True, metadata={"help": "ready: they are drawn beside the batch; false: they are some of its rows."}
    )
    meta_gradient: str = field(default="first_order", metadata={"help": "ready: first_order, finite_difference"})
    inner_steps: int = field(default=1, metadata={"help": "ready: steps of the simulated request."})
    resistance: str = field(
        default="none", metadata={"help": f"ready: {', '.join(RESISTANCES)}; unlearn: relearn, the others are none."}
    )
    together: bool | None = field(
        default=None, metadata={"help": "unlearn: forget and retain rows in one pass. Default: by size."}
    )
    device: str = field(default="cuda", metadata={"help": "cuda or cpu: whose kernels."})

    @property
    def resists(self) -> bool:
        """Whether it is a request with a simulated recovery."""
        return self.verb == "unlearn" and self.resistance == "relearn"

    def problems(self) -> list[str]:
        """What is wrong with it, or does not run, in words."""
        found = [
            f"`{name}` is {getattr(self, name)!r}; it must be one of {', '.join(map(repr, allowed))}."
            for name, allowed in (
                ("verb", VERBS),
                ("dtype", DTYPES),
                ("engine", ENGINES),
                ("optim", tuple(OPTIMIZERS)),
                ("meta_gradient", ("first_order", "finite_difference")),
                ("resistance", RESISTANCES),
                ("task", (None, *TASKS)),
                ("device", ("cuda", "cpu")),
            )
            if getattr(self, name) not in allowed
        ]
        least = {"batch_size": 1, "eval_batch_size": 1, "length": 2, "processes": 1, "inner_steps": 1}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                found.append(f"`{name}` is {getattr(self, name)!r}; it must be at least {low}.")
        if self.request_rows is not None and not 1 <= self.request_rows <= (self.batch_size, 1 << 30)[self.drawn]:
            most = "at least 1" if self.drawn else "between 1 and the batch size"
            found.append(f"`request_rows` is {self.request_rows}; it must be {most}.")
        if self.engine == "single" and self.processes > 1:
            found.append("`processes` above 1 need an `engine`: ddp, fsdp2, zero1 or zero2.")
        if self.engine.startswith("zero") and self.verb == "ready":
            found.append("Readiness needs several backwards before one step, which DeepSpeed refuses. Use fsdp2.")
        if self.engine.startswith("zero") and self.verb == "unlearn" and self.together is False:
            found.append("Rows in turn need two backwards before one step, which DeepSpeed refuses. Use fsdp2.")
        if self.engine.startswith("zero") and self.resists:
            found.append("A simulated recovery needs several backwards before one step, which DeepSpeed refuses.")
        return found
