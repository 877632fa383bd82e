"""The estimate of a run's memory: its steps, taken on tensors without data, and what engines add by formula."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..utils.checks import ArgumentError, Wrong, raise_problems
from .model import batches_of, build_model, first_line, read_config, task_of
from .optimizers import OPTIMIZERS, scratch_bytes
from .run import REQUEST_ROWS, Run

if TYPE_CHECKING:
    from .simulation import Simulation

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
CONTEXT = 10**9  # bytes of a GPU that its driver and the allocator's fragments take: an assumption
SNAPSHOT_COPIES = 6  # of the trainable weights in the host's memory, at most: five that a request keeps, one being made
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
    from ..data.limits import limits_of
    from .ledger import Ledger
    from .simulation import Simulation

    config, run = (config, run) if config is not None else read_config(run)
    task = run.task or task_of(config)
    config.use_cache = False  # as the Trainer sets it
    engine = _Engine(run, config)
    try:
        model = build_model(run, config, task, engine.dtype, adapters_in_float32=not engine.computes_in_half)
    except ArgumentError:
        raise
    except Exception as error:  # whatever the model's or the adapter's own checks raise
        raise ArgumentError([f"The model cannot be built: {first_line(error)}"]) from error
    trainable = [p for p in model.parameters() if p.requires_grad]
    half = {str(p.dtype) for p in trainable if str(p.dtype) != "torch.float32"}
    if half and run.verb == "ready" and run.meta_gradient == "finite_difference" and not engine.computes_in_half:
        raise ArgumentError([f"The trainable weights are {', '.join(half)}; finite_difference needs float32."])

    vocabulary = config.get_text_config().vocab_size if task == "causal_lm" else None
    ledger = Ledger(engine.share, vocabulary, casts=run.device == "cpu")
    ledger.add("buckets", engine.buckets(trainable))
    counts = sum(p.numel() for p in model.parameters()), sum(p.numel() for p in trainable)
    size = sum(p.nbytes for p in trainable)
    scratch = int(scratch_bytes(run, [p.nbytes for p in trainable]) * engine.share.get("optimizer", 1))
    state = engine.optimizer_state(trainable)
    steps = Simulation(
        model,
        batches_of(run, config, task),
        ledger,
        autocast=engine.autocast,
        device=run.device,
        gathered=_gathered(model) if engine.sharded else 0,
    )
    try:
        with steps.running(state):
            _take_steps(steps, run, getattr(config.get_text_config(), "hidden_size", 1), scratch)
    except RuntimeError as error:  # of a fake operation
        positions = limits_of(model).positions
        if task in ("causal_lm", "sequence_classification") and positions and run.length > positions:
            said = f"is {run.length}, but the model has {positions} positions: no row can be longer."
            raise ArgumentError([Wrong("length", said)]) from error
        problem = "No estimate: this model's step does not run on tensors without data: "
        raise ArgumentError([problem + str(error).splitlines()[0]]) from error
    parts = {part: ledger.at_peak.get(part, 0) for part in PARTS}
    name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
    host = engine.snapshots(size) if run.verb == "unlearn" else 0
    return Estimate(run, name, parts, ledger.peak_moment, host, *counts, size)


def _take_steps(steps: Simulation, run: Run, hidden_size: int, scratch: int) -> None:
    """The steps of the run in which its peak may be; `scratch`: bytes that the optimizer's step takes for a moment."""
    from ..data.batch import count_positions, forward_together
    from ..readiness.terms import Terms

    one_row = count_positions(steps.batch(1), hidden_size)

    def together(rows: int) -> bool:
        return forward_together(rows * one_row, run.device)

    if run.verb == "unlearn":
        steps.look(min(run.eval_batch_size, run.batch_size))
        zero = run.engine.startswith("zero")
        in_one = zero or together(2 * run.batch_size) if run.together is None else run.together
        steps.unlearn(run.batch_size, in_one, scratch, run.resists)
    elif run.verb == "train" or run.batch_size > 1:  # of one row, a step with readiness holds more in any case
        steps.train(run.batch_size, scratch)
    if run.verb == "ready":
        terms = Terms(
            inner_steps=run.inner_steps,
            meta_gradient=run.meta_gradient,
            resistance=run.resistance,
            lambda_resistance=float(run.resistance != "none"),
        )
        request = run.request_rows or (REQUEST_ROWS if run.drawn else max(1, run.batch_size // 4))
        steps.ready(run.batch_size, request, terms, scratch, together, run.drawn)


class _Engine:
    """What the engine and the data type make of a run: which share one process holds, and of which type."""

    def __init__(self, run: Run, config):
        import torch

        self.run = run
        self.sharded, self.zero = run.engine == "fsdp2", run.engine.startswith("zero")
        mixed = run.dtype == "bf16-mixed"
        self.computes_in_half = mixed and (self.sharded or self.zero)  # in bf16 by themselves, without autocast
        self.autocast = mixed and not self.computes_in_half
        self.dtype = torch.bfloat16 if self.computes_in_half or run.dtype == "bfloat16" else torch.float32
        if run.dtype == "auto":
            named = getattr(config, "dtype", None) or torch.float32
            self.dtype = getattr(torch, named) if isinstance(named, str) else named
        self.double = 2 if self.computes_in_half and self.sharded else 1  # its shards are float32
        self.share: dict[str, float] = {}  # of a part's bytes that one process holds, where it is not 1
        if self.sharded:
            self.share = dict.fromkeys(("weights", "gradients", "optimizer", "readiness"), self.double / run.processes)
        elif run.engine == "zero2":
            self.share = {"gradients": 1 / run.processes}

    def optimizer_state(self, trainable) -> int:
        bytes_of, n = OPTIMIZERS[self.run.optim], self.run.processes
        if self.zero:  # the moments and a copy of the weights, in float32
            return sum(4 * p.numel() + bytes_of(p.float()) for p in trainable) // n
        state = sum(bytes_of(p) for p in trainable)
        return state * self.double // n if self.sharded else state

    def buckets(self, trainable) -> int:
        """Bytes in which gradients are summed over processes."""
        size = sum(p.nbytes for p in trainable)
        if self.run.engine == "ddp":
            return size
        if self.zero:
            return min(2 * DEEPSPEED_BUCKET * trainable[0].element_size(), 2 * size)
        return 0

    def snapshots(self, trainable_bytes: int) -> int:
        """Bytes of the copies of weights that a request keeps in the host's memory."""
        return SNAPSHOT_COPIES * trainable_bytes * self.double // (self.run.processes if self.sharded else 1)


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
