"""Memory of a run: an estimate before it, and peaks measured during it.

    python -m hf_unlearn.memory --model meta-llama/Llama-3.1-8B --peft lora:r=16 --dtype bfloat16 \\
        --batch_size 1 --length 4096 --gradient_checkpointing --memory 24GB

One process's share, for a step of plain training, of readiness and of unlearning. The estimate takes the steps on
tensors without data (see [`hf_unlearn.simulation`]): it needs the model's config and no weights, no GPU and, with a
config file, no network. On the CPU it is within 2 % of the measured peaks of language models and text classifiers, and
within 5 % for a tiny ViT (`tests/test_memory.py`). Not measured: GPUs, and FSDP2 and ZeRO, which are by formula.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from .options import RESISTANCES, ArgumentError, raise_problems

TASKS = ("causal_lm", "sequence_classification", "image_classification")
DTYPES = ("auto", "float32", "bfloat16", "bf16-mixed")
ENGINES = ("single", "ddp", "fsdp2", "zero1", "zero2")
REQUEST_ROWS = 16  # the default of `ReadyConfig.request_rows`
VERBS = ("train", "ready", "unlearn")
PARTS = {
    "weights": "all parameters and buffers",
    "gradients": "all that are held at once",
    "optimizer": "its state",
    "readiness": "copies of the trainable weights, arithmetic on them",
    "activations": "kept for the backward, and what is passing through",
    "logits": "all copies: as computed, float32, log-softmax, gradient",
    "buckets": "where gradients are summed over processes (formula)",
    "gathered": "layers that are whole for a moment (formula)",
}
CONTEXT = 10**9  # bytes of a GPU that its driver and the allocator's fragments take, at least (ours)
SNAPSHOTS = 4  # copies of the trainable weights that `UnlearnTrainer` keeps in the host's memory, at most
DEEPSPEED_BUCKET = 500_000_000  # elements, its default; two are held


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


@dataclass(frozen=True)
class Estimate:
    """
    Bytes that one process holds at the peak of a run's steps, after the first, which has no optimizer state yet.

    `parts`: what the peak consists of, keys of `PARTS`. `moment`: when it is. `host`: bytes of copies of weights in the
    host's memory, at most. `weights_count`, `trainable_count`: elements. `trainable`: bytes of the trainable weights.
    """

    run: Run
    architecture: str
    parts: dict[str, int]
    moment: str
    host: int
    weights_count: int
    trainable_count: int
    trainable: int

    @property
    def peak(self) -> int:
        return sum(self.parts.values())

    @property
    def needed(self) -> int:
        """`peak`, and on a GPU its context and the allocator's fragments, `CONTEXT`."""
        return self.peak + (CONTEXT if self.run.device == "cuda" else 0)

    def to_dict(self) -> dict:
        return {**asdict(self), "peak": self.peak, "needed": self.needed}


# ---- the estimate ----


def _adam(p) -> int:
    return 2 * p.nbytes + 4


def _adam_8bit(p) -> int:
    """bitsandbytes: bytes, and a float32 scale for each 256 of them; small tensors stay in float32."""
    return 8 * p.numel() if p.numel() < 4096 else 2 * (p.numel() + 4 * math.ceil(p.numel() / 256))


def _adafactor(p) -> int:
    """Rows and columns of matrices in float32 (no first moment, as the Trainer sets it up)."""
    return 4 * (p.numel() // p.shape[-1] + p.numel() // p.shape[-2] if p.dim() >= 2 else p.numel())


OPTIMIZERS: dict[str, Callable] = {  # bytes of state of a parameter
    "adamw_torch_fused": _adam,
    "adamw_torch": _adam,
    "adamw_8bit": _adam_8bit,
    "adamw_bnb_8bit": _adam_8bit,
    "adafactor": _adafactor,
    "adagrad": lambda p: p.nbytes + 4,
    "rmsprop": lambda p: p.nbytes + 4,
    "sgd": lambda p: 0,
}


def _scratch(run: Run, sizes: list[int]) -> int:
    """Bytes that the optimizer's step needs for a moment, from those of the trainable parameters."""
    if run.optim == "adafactor":
        return 2 * max(sizes)
    if run.optim not in ("adamw_torch", "adagrad", "rmsprop"):
        return 0
    if run.device == "cuda":  # all parameters in one go
        return sum(sizes)
    return (2 if run.optim == "adamw_torch" else 1) * max(sizes)


def estimate(run: Run, config=None) -> Estimate:
    """
    What a run's steps hold at their peak.

    Args:
        config: the model's `PreTrainedConfig`; None: the one that `run.model` or `run.model_type` names.

    Raises:
        ArgumentError: with all problems of the run; also where the trainers would refuse it.
    """
    raise_problems(run.problems())
    import torch

    from .forwards import count_positions, forward_together
    from .meta import Terms
    from .simulation import Ledger, Simulation

    config, run = (config, run) if config is not None else read_config(run)
    task = run.task or _task_of(config)
    config.use_cache = False  # as the Trainer sets it
    sharded = run.engine == "fsdp2"
    zero = run.engine.startswith("zero")
    mixed = run.dtype == "bf16-mixed"
    halved = mixed and (sharded or zero)  # these engines compute in bf16 themselves, without autocast
    dtype = torch.bfloat16 if halved or run.dtype == "bfloat16" else torch.float32
    if run.dtype == "auto":
        named = getattr(config, "dtype", None) or torch.float32
        dtype = getattr(torch, named) if isinstance(named, str) else named
    try:
        model = _build(run, config, task, dtype, adapters_in_float32=not halved)
    except ArgumentError:
        raise
    except Exception as error:  # whatever the model's or the adapter's own checks raise
        raise ArgumentError([f"The model cannot be built: {_first_line(error)}"]) from error
    trainable = [p for p in model.parameters() if p.requires_grad]
    half = {str(p.dtype) for p in trainable if p.dtype != torch.float32}
    if half and run.verb == "ready" and run.meta_gradient == "finite_difference" and not halved:
        raise ArgumentError([f"The trainable weights are {', '.join(half)}; finite_difference needs float32."])

    n = run.processes
    double = 2 if halved and sharded else 1  # its shards are float32
    share = dict.fromkeys(("weights", "gradients", "optimizer", "readiness"), double / n) if sharded else {}
    if run.engine == "zero2":
        share = {"gradients": 1 / n}
    state = sum(OPTIMIZERS[run.optim](p) for p in trainable)
    if sharded or zero:
        state = state * double // n
    if zero:  # the moments and a copy of the weights, in float32
        state = sum(4 * p.numel() + OPTIMIZERS[run.optim](p.float()) for p in trainable) // n
    vocabulary = config.get_text_config().vocab_size if task == "causal_lm" else None
    ledger = Ledger(share, vocabulary, casts=run.device == "cpu")
    scratch = int(_scratch(run, [p.nbytes for p in trainable]) * share.get("optimizer", 1))
    counts = sum(p.numel() for p in model.parameters()), sum(p.numel() for p in trainable)
    size = sum(p.nbytes for p in trainable)
    ledger.add("buckets", _buckets(run, trainable))

    batches = _batches(run, config, task)
    steps = Simulation(
        model,
        batches,
        ledger,
        autocast=mixed and not halved,
        device=run.device,
        gathered=_gathered(model) if sharded else 0,
    )

    def together(rows: int) -> bool:
        return forward_together(rows * one_row, run.device)

    request = run.request_rows or (REQUEST_ROWS if run.drawn else max(1, run.batch_size // 4))
    terms = Terms(
        inner_steps=run.inner_steps,
        meta_gradient=run.meta_gradient,
        resistance=run.resistance,
        lambda_resistance=float(run.resistance != "none"),
    )
    try:
        with steps.running(state):
            one_row = count_positions(batches(1), getattr(config.get_text_config(), "hidden_size", 1))
            if run.verb == "unlearn":
                steps.look(min(run.eval_batch_size, run.batch_size))
                in_one = zero or together(2 * run.batch_size) if run.together is None else run.together
                steps.unlearn(run.batch_size, in_one, scratch, run.resists)
            elif run.verb == "train" or run.batch_size > 1:  # of one row, a step with readiness holds more in any case
                steps.train(run.batch_size, scratch)
            if run.verb == "ready":
                steps.ready(run.batch_size, request, terms, scratch, together, run.drawn)
    except RuntimeError as error:  # of a fake operation
        problem = "No estimate: this model's step does not run on tensors without data: "
        raise ArgumentError([problem + str(error).splitlines()[0]]) from error
    copies = SNAPSHOTS * size * double // (n if sharded else 1) if run.verb == "unlearn" else 0
    parts = {part: ledger.at_peak.get(part, 0) for part in PARTS}
    name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
    return Estimate(run, name, parts, ledger.peak_moment, copies, *counts, size)


def _buckets(run: Run, trainable) -> int:
    size = sum(p.nbytes for p in trainable)
    if run.engine == "ddp":
        return size
    if run.engine.startswith("zero"):
        return min(2 * DEEPSPEED_BUCKET * trainable[0].element_size(), 2 * size)
    return 0


def _gathered(model) -> int:
    """
    FSDP2, bytes during a pass: what is in no layer, two layers (the current one and the next, which is on its way), and
    the gradients of these (one layer's as they come, another's on their way to be summed). As seen on two processes.
    """
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [m for m in model.modules() if type(m).__name__ in kinds]
    inside = {id(p) for layer in layers for p in layer.parameters()}

    def size(parameters) -> int:
        return sum(p.nbytes * (1 + p.requires_grad) for p in parameters)

    outside = size(p for p in model.parameters() if id(p) not in inside)
    return outside + 2 * max((size(layer.parameters()) for layer in layers), default=0)


def _build(run: Run, config, task: str, dtype, adapters_in_float32: bool):
    """The model on the meta device, with its adapter, as a trainer would get it."""
    import torch
    import transformers

    kinds = ("AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModelForImageClassification")
    auto = getattr(transformers, kinds[TASKS.index(task)])
    if task == "sequence_classification" and config.pad_token_id is None:
        config.pad_token_id = 0
    with torch.device("meta"):
        try:
            model = auto.from_config(config, dtype=dtype, attn_implementation=run.attn_implementation)
        except (TypeError, ValueError) as error:
            raise ArgumentError([f"No {task} model can be made of this config: {error}"]) from error
        if run.peft:
            from peft import get_peft_model

            model = get_peft_model(model, _adapter(run.peft, task), autocast_adapter_dtype=adapters_in_float32)
    if run.gradient_checkpointing:
        if hasattr(model, "activation_checkpointing_enable"):  # transformers 5.20 or so; the other name goes with 6
            model.activation_checkpointing_enable()
        else:
            model.gradient_checkpointing_enable()
    return model


def _batches(run: Run, config, task: str) -> Callable[[int], dict]:
    import torch

    def images(n: int) -> dict:
        size = getattr(config, "image_size", 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        pixels = torch.zeros(n, getattr(config, "num_channels", 3), height, width)
        return {"pixel_values": pixels, "labels": torch.zeros(n, dtype=torch.int64)}

    def texts(n: int) -> dict:
        ids = torch.zeros(n, run.length, dtype=torch.int64)
        labels = torch.zeros_like(ids) if task == "causal_lm" else torch.zeros(n, dtype=torch.int64)
        padded = run.batch_size > 1 if run.padded is None else run.padded
        mask = {"attention_mask": torch.ones_like(ids)} if padded else {}
        return {"input_ids": ids, "labels": labels, **mask}

    return images if task == "image_classification" else texts


def _task_of(config) -> str:
    from transformers.models.auto import modeling_auto

    names = ("MODEL_FOR_CAUSAL_LM", "MODEL_FOR_SEQUENCE_CLASSIFICATION", "MODEL_FOR_IMAGE_CLASSIFICATION")
    wanted = (getattr(config, "architectures", None) or [None])[0]
    for name, task in zip(names, TASKS, strict=True):
        for value in getattr(modeling_auto, f"{name}_MAPPING_NAMES").values():
            if wanted in ([value] if isinstance(value, str) else value):
                return task
    raise ArgumentError([f"The config names {wanted or 'no architecture'}; say with `task` what it is for."])


def read_config(run: Run):
    """
    `(config, run)`: the config that the run names; of a folder with an adapter the base model's, the adapter in `peft`.

    Raises:
        ArgumentError: if none or two are named, or one cannot be read.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.utils import find_adapter_config_file

    if bool(run.model) == bool(run.model_type):
        raise ArgumentError(["Give either `model` (folder, hub id or config.json) or `model_type`."])
    try:
        if run.model_type:
            if run.model_type not in CONFIG_MAPPING_NAMES:
                near = difflib.get_close_matches(run.model_type, CONFIG_MAPPING_NAMES)
                hint = f" Did you mean {', '.join(near)}?" if near else ""
                raise ArgumentError([f"There is no `model_type` {run.model_type!r}.{hint}"])
            known = AutoConfig.for_model(run.model_type).to_dict()
            values = _pairs(run.config_overrides)
            if unknown := sorted(set(values) - set(known) - {"num_labels"}):
                raise ArgumentError([f"A {run.model_type} config has no {', '.join(unknown)}."])
            return AutoConfig.for_model(run.model_type, **values), run
        source = run.model
        if (source.endswith(".json") or source.startswith((".", "/", "~"))) and not Path(source).exists():
            raise ArgumentError([f"There is no file or folder {source!r}."])
        if Path(source).is_dir() and find_adapter_config_file(source) is not None:
            from peft import PeftConfig

            run = replace(run, peft=run.peft or source)
            source = PeftConfig.from_pretrained(source).base_model_name_or_path
        return AutoConfig.from_pretrained(source), run
    except ArgumentError:
        raise
    except Exception as error:  # whatever a config's own checks raise
        raise ArgumentError([f"The config cannot be used: {_first_line(error)}"]) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _pairs(text: str) -> dict:
    """ "r=16,target_modules=q_proj+v_proj" as a dict; values by JSON where they are JSON, `+` makes a list."""
    found = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ArgumentError([f"{pair!r} is not of the form name=value."])
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value.split("+") if "+" in value else {"True": True, "False": False}.get(value, value)
    return found


def _adapter(text: str, task: str):
    """The adapter's config from a folder, a hub id, a JSON file, or "lora:r=16,…" (all linear layers by default)."""
    from peft import LoraConfig, PeftConfig, get_peft_config

    kinds = dict(zip(TASKS, ("CAUSAL_LM", "SEQ_CLS", None), strict=True))
    try:
        if text.partition(":")[0] == "lora":
            values = {"target_modules": "all-linear", "task_type": kinds[task], **_pairs(text[len("lora:") :])}
            return LoraConfig(**values)
        if Path(text).is_file():
            config = get_peft_config(json.loads(Path(text).read_text()))
        else:
            config = PeftConfig.from_pretrained(text)
        config.inference_mode = False
        return config
    except (OSError, KeyError, TypeError, ValueError) as error:
        problem = " ".join(getattr(error, "problems", str(error).splitlines()[:1]))
        raise ArgumentError([f"`peft` is {text!r}: {problem} Give a folder, a JSON file, or lora:r=16."]) from error


# ---- what to change ----


def changes(run: Run, config=None) -> list[tuple[str, Run]]:
    """Ways to need less, the ones that cost least first: `(in words, the run with it)`."""
    ways = []
    if not run.gradient_checkpointing:
        ways.append(("--gradient_checkpointing", {"gradient_checkpointing": True}))
    if run.batch_size > 1:
        ways.append(("--batch_size 1, with accumulation", {"batch_size": 1, "request_rows": None}))
    if run.together:
        ways.append(("forget and retain rows in turn", {"together": False}))
    if not run.peft:
        ways.append(("--peft lora:r=16", {"peft": "lora:r=16"}))
    if run.dtype in ("auto", "float32", "bf16-mixed"):
        ways.append(("--dtype bfloat16", {"dtype": "bfloat16"}))
    return [(words, replace(run, **values)) for words, values in ways]


def advice(first: Estimate, memory: int, config=None) -> list[tuple[str, Estimate]]:
    """Changes on top of each other until it fits, each with the estimate after it; those that bring < 1 % left out."""
    taken: list[tuple[str, Estimate]] = []
    now, tried = first, set()
    while now.needed > memory:
        words, run = next(((w, r) for w, r in changes(now.run) if w not in tried), (None, None))
        if words is None:
            break
        tried.add(words)
        try:
            after = estimate(run, config)
        except ArgumentError:
            continue
        if after.needed < 0.99 * now.needed:
            now = after
            taken.append((words, after))
    return taken


def parse_bytes(text: str) -> int:
    """
    "24GB" (10⁹), "24GiB" (2³⁰), "800MB", "16e9" in bytes.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*(?:([KMGT])(i?)B?|B)?\s*", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory; write it like 24GB, 24GiB or 800MB.")
    number, unit, binary = match.groups()
    power = " KMGT".index((unit or " ").upper())
    return int(float(number) * (1024 if binary else 1000) ** power)


def _number(size: float) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{size / factor:.2f} {unit}B"
    return f"{size:.0f} B"


def table(estimates: list[Estimate], memory: int | None = None) -> str:
    """The estimates of one run's verbs side by side."""
    one = estimates[0]
    run = one.run
    images = run.task == "image_classification" or "Image" in one.architecture
    rows = f"{run.batch_size} row{'s' * (run.batch_size > 1)}" + ("" if images else f" of {run.length} tokens")
    lines = [
        f"{one.architecture}: {one.weights_count / 1e6:,.1f} M weights, {one.trainable_count / 1e6:,.1f} M trainable"
        + (f" ({run.peft})" if run.peft else ""),
        f"{run.dtype}, {rows}{', gradient checkpointing' * run.gradient_checkpointing}, {run.optim}, "
        + (run.engine if run.engine == "single" else f"{run.engine}, one of {run.processes} processes"),
        "",
        " " * 14 + "".join(f"{e.run.verb:>12}" for e in estimates),
    ]
    for part, meaning in PARTS.items():
        if any(e.parts[part] for e in estimates):
            lines.append(f"{part:<14}" + "".join(f"{_number(e.parts[part]):>12}" for e in estimates) + f"   {meaning}")
    lines.append(f"{'peak':<14}" + "".join(f"{_number(e.peak):>12}" for e in estimates))
    if any(e.host for e in estimates):
        lines.append(
            f"{'on the host':<14}" + "".join(f"{_number(e.host) if e.host else '':>12}" for e in estimates)
            + "   copies of the trainable weights"
        )  # fmt: skip
    lines.append("")
    for e in estimates:
        part = max(e.parts, key=e.parts.__getitem__)
        second = max((p for p in e.parts if p != part), key=e.parts.__getitem__)
        lines.append(f"{e.run.verb}: most in {e.moment}; the largest parts are {part} and {second}.")
    if memory is not None:
        lines.append("")
        more = f", with {_number(CONTEXT)} for the GPU's own use" if run.device == "cuda" else ""
        for e in estimates:
            fits = "fits" if e.needed <= memory else "DOES NOT FIT"
            lines.append(f"{e.run.verb}: {fits} {_number(memory)}: needs {_number(e.needed)}{more}.")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m hf_unlearn.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for f in fields(Run):
        text = f.metadata["help"] + ("" if f.default in (None, "", False) else f" Default: {f.default}.")
        if f.name == "verb":
            parser.add_argument("--verb", nargs="+", default=list(VERBS), help=f"{', '.join(VERBS)}; default: all.")
        elif "bool" in f.type:
            parser.add_argument(f"--{f.name}", action=argparse.BooleanOptionalAction, default=f.default, help=text)
        else:
            kind = int if "int" in f.type else str
            parser.add_argument(f"--{f.name}", type=kind, default=f.default, help=text)
    parser.add_argument("--memory", type=parse_bytes, help="Of one device, like 24GB (10⁹) or 24GiB: does it fit?")
    parser.add_argument("--json", action="store_true", help="One JSON list instead of the table.")
    values = vars(parser.parse_args(argv))
    memory, as_json, verbs = values.pop("memory"), values.pop("json"), values.pop("verb")
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    logging.getLogger("torch._subclasses.fake_tensor").disabled = True  # what goes wrong there is said below
    warnings.simplefilter("ignore")
    found: list[Estimate] = []
    problems: dict[str, list[str]] = {}
    for verb in verbs:
        if sys.stderr.isatty():
            sys.stderr.write(f"taking the steps of {verb!r} on tensors without data …\n")
        try:
            found.append(estimate(Run(**values, verb=verb)))
        except ArgumentError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(verb)
    if as_json:
        sys.stdout.write(json.dumps([e.to_dict() for e in found], indent=2) + "\n")
    elif found:
        sys.stdout.write(table(found, memory) + "\n")
        for e in found:
            if memory is not None and e.needed > memory:
                steps = advice(e, memory)
                for words, after in steps:
                    sys.stdout.write(f"  {e.run.verb} with {words}: {_number(after.needed)}\n")
                if not steps or steps[-1][1].needed > memory:
                    sys.stdout.write(f"  {e.run.verb}: more is needed: shorter rows, or --engine fsdp2.\n")
    for problem, of in problems.items():
        sys.stderr.write(f"{', '.join(of)}: {problem}\n")
    return 0 if found and (memory is None or all(e.needed <= memory for e in found)) else 1


# ---- measured peaks ----


def peak_bytes(run: Callable[[], object], device=None) -> int:
    """
    Bytes of tensors that `run()` holds at its peak, on top of those that are there when it begins.

    On CUDA the caching allocator's count. On the CPU the allocator's events as the profiler records them: every
    allocation, those inside an operation too, exact and the same in each run. Not seen there: the scratch memory of
    libraries that call malloc themselves, and the release of tensors that are older than the run or that other threads
    release (collectives over gloo).

    Args:
        device: "cpu", "cuda", "cuda:1" or a `torch.device`; None: CUDA if there is one, else the CPU.

    Raises:
        ValueError: for another kind of device.
    """
    import torch

    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"`device` is {str(device)!r}; peaks are measured on 'cpu' and 'cuda'.")
    gc.collect()  # what waits there to be released would be released at any time during the run
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events, open_ = [], list(profiler.profiler.kineto_results.experimental_event_tree())
    while open_:
        event = open_.pop()
        open_ += event.children
        if event.name == "[memory]" and event.extra_fields.device.type == "cpu":
            events.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    sizes: dict[int, int] = {}  # by address; the profiler also reports blocks that an earlier run has left
    now = peak = 0
    for _, address, size in sorted(events):
        if size > 0:
            sizes[address] = size
            now += size
        else:
            now -= sizes.pop(address, 0)
        peak = max(peak, now)
    return peak


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
