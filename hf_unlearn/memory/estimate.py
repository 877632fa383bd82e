"""Memory of a run: an estimate before it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..utils.checks import ArgumentError, raise_problems
from .model import _batches, _build, _first_line, _task_of, read_config
from .optimizers import OPTIMIZERS, _scratch
from .run import REQUEST_ROWS, Run

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

    from ..data.batch import count_positions, forward_together
    from ..readiness.terms import Terms
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
