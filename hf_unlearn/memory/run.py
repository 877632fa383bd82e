"""A run whose memory is estimated: its options and what is wrong with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ..options import RESISTANCES
from ..utils.checks import whole
from .optimizers import OPTIMIZERS

MODEL_TASKS = ("causal_lm", "sequence_classification", "image_classification")
DTYPES = ("auto", "float32", "bfloat16", "bf16-mixed")
ENGINES = ("single", "ddp", "fsdp2", "zero1", "zero2")
REQUEST_ROWS = 16  # the default of `ReadyConfig.request_rows`
STEP_VERBS = ("train", "ready", "unlearn")


def _option(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Run:
    """What is to be run. The names are those of `TrainingArguments` and of the recipes, `per_device_` left out."""

    model: str | None = _option(None, "Folder, hub id or path of a config.json; a folder with an adapter works too.")
    model_type: str | None = _option(None, "In place of `model`: a new model of this type (llama, bert, vit, …).")
    config_overrides: str = _option("", "Sizes of a new model: hidden_size=128,num_hidden_layers=3")
    task: str | None = _option(
        None, f"What the model is for: {', '.join(MODEL_TASKS)}. Default: what the config's architecture is for."
    )
    verb: str = _option("train", "What the step is of: " + ", ".join(STEP_VERBS) + ".")
    peft: str | None = _option(
        None,
        "Adapter: its folder, a JSON file of its config, or lora:r=16,target_modules=q_proj+v_proj. Default: none.",
    )
    dtype: str = _option(
        "auto", f"Type of the weights: {', '.join(DTYPES)} (float32 weights, bfloat16 autocast). auto: the config's."
    )
    load_in_4bit: bool = _option(False, "Pack the base below the adapter in 4 bits (QLoRA), as with bitsandbytes.")
    bnb_4bit_use_double_quant: bool = _option(False, "Pack the scales of packed weights, too.")
    bnb_4bit_compute_dtype: str | None = _option(
        None, "Type that packed weights are multiplied in. Default: that of the others."
    )
    revision: str | None = _option(None, "Branch, tag or commit of `model` on the hub.")
    trust_remote_code: bool = _option(False, "Run the code that comes with `model`.")
    batch_size: int = _option(
        8, "Rows of a micro-batch on one process; of unlearning as many forget rows and as many retain rows."
    )
    eval_batch_size: int = _option(
        8, "Rows at a time when unlearning measures the forget set; `batch_size` if that is fewer."
    )
    length: int = _option(512, "Tokens of a row, padding included.")
    padded: bool | None = _option(
        None, "Whether rows are padded, so that attention keeps a mask. Default: yes with several rows."
    )
    gradient_checkpointing: bool = _option(
        False, "Keep only the inputs of layers for the backward and compute the rest again: slower, less memory."
    )
    attn_implementation: str | None = _option(None, "Attention kernel, sdpa or eager. Default: the model's.")
    optim: str = _option("adamw_torch_fused", f"Optimizer, as in TrainingArguments: {', '.join(OPTIMIZERS)}.")
    engine: str = _option("single", "How processes share the work: " + ", ".join(ENGINES) + ".")
    processes: int = _option(1, "Number of processes; the estimate is for one of them.")
    request_rows: int | None = _option(
        None, "ready: rows of the simulated request. Default: 16, or with `drawn` false a quarter of the batch."
    )
    drawn: bool = _option(
        True, "ready: the request's rows are drawn beside the batch; false: they are some of its rows."
    )
    meta_gradient: str = _option("first_order", "ready: first_order, or finite_difference, which holds more gradients.")
    inner_steps: int = _option(1, "ready: ascent steps of the simulated request.")
    resistance: str = _option("none", f"ready: {', '.join(RESISTANCES)}; unlearn: relearn, the others are none.")
    together: bool | None = _option(
        None, "unlearn: forget and retain rows in one pass; false: in turn. Default: together where both are small."
    )
    device: str = _option("cuda", "Whose kernels to assume: cuda or cpu.")

    @property
    def resists(self) -> bool:
        """Whether it is a request with a simulated recovery."""
        return self.verb == "unlearn" and self.resistance == "relearn"

    def problems(self) -> list[str]:
        """What is wrong with it, or does not run, in words."""
        found = [
            f"`{name}` is {getattr(self, name)!r}; it must be one of {', '.join(map(repr, allowed))}."
            for name, allowed in (
                ("verb", STEP_VERBS),
                ("dtype", DTYPES),
                ("engine", ENGINES),
                ("optim", tuple(OPTIMIZERS)),
                ("meta_gradient", ("first_order", "finite_difference")),
                ("resistance", RESISTANCES),
                ("task", (None, *MODEL_TASKS)),
                ("device", ("cuda", "cpu")),
                ("bnb_4bit_compute_dtype", (None, "float32", "bfloat16", "float16")),
            )
            if getattr(self, name) not in allowed
        ]
        least = {"batch_size": 1, "eval_batch_size": 1, "length": 2, "processes": 1, "inner_steps": 1}
        wrong = [p for name, low in least.items() for p in whole(name, getattr(self, name), low=low)]
        if self.request_rows is not None:
            wrong += whole("request_rows", self.request_rows)
        if not isinstance(self.model, (str, os.PathLike, type(None))):
            said = "give its folder, or `estimate(run, config=model.config)` without a name."
            wrong.append(f"`model` is of type {type(self.model).__name__}; {said}")
        if wrong:
            return found + wrong  # what follows takes them for numbers
        if self.request_rows is not None and not 1 <= self.request_rows <= (self.batch_size, 1 << 30)[self.drawn]:
            most = "at least 1" if self.drawn else "between 1 and the batch size"
            found.append(f"`request_rows` is {self.request_rows}; it must be {most}.")
        if self.engine == "single" and self.processes > 1:
            found.append("`processes` above 1 need an `engine`: ddp, fsdp2, zero1 or zero2.")
        if self.load_in_4bit and not self.peft:
            found.append("`load_in_4bit` packs a base, and packed weights do not learn. Give `peft`, too: lora:r=16.")
        if self.load_in_4bit and self.engine != "single" and self.engine != "ddp":
            found.append("`load_in_4bit` is estimated for whole weights on each process: `engine` single or ddp.")
        if self.engine.startswith("zero") and self.verb == "ready":
            found.append("Readiness needs several backwards before one step, which DeepSpeed refuses. Use fsdp2.")
        if self.engine.startswith("zero") and self.verb == "unlearn" and self.together is False:
            found.append("Rows in turn need two backwards before one step, which DeepSpeed refuses. Use fsdp2.")
        if self.engine.startswith("zero") and self.resists:
            found.append("A simulated recovery needs several backwards before one step, which DeepSpeed refuses.")
        return found
