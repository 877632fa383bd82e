"""
Steps of training, readiness and unlearning on tensors without data, and what they hold at their peak.

The model is built from its config on the meta device and its parameters become fake tensors: torch runs every operation
of the forward and the backward, and of the readiness gradient itself, but allocates and computes nothing. The
[`~hf_unlearn.memory.ledger.Ledger`] sees each result come and go, so what it counts is what a real step holds, for any
architecture, adapter and data type, with gradient checkpointing or without, with eager attention or sdpa.

Autograd adds fake gradients out of place where it adds real ones in place, so the count is up to 2 % high. The
simulation does not see memory that a kernel takes for its own work and gives back before it ends, nor the allocator's
rounding and fragmentation. The kernels are the CPU's. For `device="cuda"` two differences are made up for: attention
dropout stays inside the attention kernel, and a dropout keeps a mask of bytes instead of one of the input's type.
Others are left: autocast has other lists of operations there, and FlashAttention-2 is counted like sdpa, which is near.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from ..objectives.row_nll import per_row_nll
from ..readiness.gradient import readiness_gradient
from ..readiness.passes import Pass
from ..readiness.recovery import recovery_gradient
from ..readiness.terms import Terms
from .ledger import Ledger


class _AsOnCuda(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is nn.functional.scaled_dot_product_attention:
            kwargs["dropout_p"] = 0.0  # else the CPU falls back to a kernel that keeps the whole (T, T) matrix
            args = args[:4]
        elif function is nn.functional.dropout:
            names = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | kwargs
            p, training = names.get("p", 0.5), names.get("training", True)
            return torch.native_dropout(names["input"], p, True)[0] if training and p else names["input"]
        return function(*args, **kwargs)


def with_fake_weights(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A model on the meta device with fake CPU tensors in its place; what is tied stays tied."""
    made: dict[int, tuple[Tensor, Tensor]] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            with mode:
                new = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            if isinstance(tensor, nn.Parameter):
                new = nn.Parameter(new, tensor.requires_grad)
            made[id(tensor)] = (new, tensor)
        return made[id(tensor)][0]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers, module.__dict__):
            for name, value in list(tensors.items()):
                if isinstance(value, Tensor):
                    tensors[name] = fake(value)
    return model


class _SimulatedPass(Pass):
    """A [`~hf_unlearn.readiness.passes.Pass`] of a [`Simulation`]: `loss` runs its forward."""

    def __init__(self, simulation: Simulation, moment: str, loss: Callable[[], Tensor]):
        self.simulation, self.moment, self.make_loss = simulation, moment, loss

    def forward(self) -> _SimulatedForward:
        with self.simulation.passing(self.moment):
            return _SimulatedForward(self.simulation, self.moment, [self.make_loss()])


class _SimulatedJointPass:
    """A [`~hf_unlearn.readiness.passes.JointPass`] of a [`Simulation`] over `request` + `stable` rows."""

    def __init__(self, simulation: Simulation, request: int, stable: int, moment: str):
        self.simulation, self.request, self.stable, self.moment = simulation, request, stable, moment

    def forward(self) -> _SimulatedForward:
        with self.simulation.passing(self.moment):
            nll = self.simulation.row_losses(self.request + self.stable)
            graphs = [nll[: self.request].mean(), nll[self.request :].mean()]
            return _SimulatedForward(self.simulation, self.moment, graphs)


class _SimulatedForward:
    def __init__(self, simulation: Simulation, moment: str, graphs: list[Tensor]):
        self.simulation, self.moment, self.graphs = simulation, moment, graphs
        self.losses = tuple(loss.detach() for loss in graphs)
        self.loss = self.losses[0]

    def backward(self, *weights: Tensor | float) -> Tensor:
        graphs, self.graphs = self.graphs, []
        with self.simulation.passing(self.moment):
            sum(weight * loss for weight, loss in zip(weights, graphs, strict=True)).backward()
        return self.loss

    def drop(self) -> None:
        self.graphs = []


class Simulation:
    """
    A model on fake tensors, and the steps that can be taken with it.

    Args:
        model: on the meta device, with its adapter and with gradient checkpointing switched on where wanted.
        batch: makes n rows of inputs with their labels.
        ledger: gets the count.
        autocast: forward passes under bf16 autocast, as `accelerate` does with `mixed_precision="bf16"`.
        device: "cuda" or "cpu", see above.
        gathered: bytes that an engine adds during each pass.
    """

    def __init__(
        self, model, batch: Callable[[int], dict], ledger: Ledger, *, autocast: bool, device: str, gathered: int = 0
    ):
        self.batch, self.ledger, self.device, self.gathered = batch, ledger, device, gathered
        self.mode = FakeTensorMode()
        self.model = with_fake_weights(model, self.mode)
        self.forward = self.model
        if autocast:
            from accelerate.utils import convert_outputs_to_fp32

            self.forward = convert_outputs_to_fp32(torch.autocast("cpu", dtype=torch.bfloat16)(self.model.forward))
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        for p in self.parameters:
            p.register_post_accumulate_grad_hook(lambda p: ledger.turn_into(p.grad, "gradients"))

    @contextmanager
    def running(self, optimizer: int):
        """The weights and the optimizer's state, in bytes, are there; in the block, steps can be taken."""
        with ExitStack() as stack:
            for mode in (self.mode, self.ledger):
                stack.enter_context(mode)
            if self.device == "cuda":
                stack.enter_context(_AsOnCuda())
            with self.ledger.during("weights", "the start"):
                for tensor in (*self.model.parameters(), *self.model.buffers()):
                    self.ledger.hold(tensor)
            self.ledger.add("optimizer", optimizer)
            self.model.train()
            yield

    def mean_loss(self, rows: int) -> Tensor:
        return self.forward(**self.batch(rows)).loss

    def row_losses(self, rows: int) -> Tensor:
        batch = self.batch(rows)
        labels = batch.pop("labels")
        logits = self.forward(**batch).logits
        return per_row_nll(logits, labels)[0]

    @contextmanager
    def passing(self, moment: str):
        with self.ledger.during("activations", moment):
            self.ledger.add("gathered", self.gathered)
            yield
            self.ledger.add("gathered", -self.gathered)

    def _step(self, scratch: int) -> None:
        """The optimizer's step with its scratch memory, in bytes."""
        with self.ledger.during("optimizer", "the optimizer's step"):
            self.ledger.add("optimizer", scratch)
            self.ledger.add("optimizer", -scratch)
        for p in self.parameters:
            p.grad = None

    def _read(self, rows: int) -> dict:
        """The rows of a step; with the next step's, since `accelerate` reads one batch ahead."""
        with self.ledger.during("activations", "the reading of the rows"):
            return self.batch(2 * rows)

    def train(self, rows: int, scratch: int) -> None:
        _held = self._read(rows)
        _SimulatedPass(self, f"a pass over {_rows(rows)}", lambda: self.mean_loss(rows)).add_gradient(1.0)
        self._step(scratch)

    def ready(
        self, rows: int, request: int, terms: Terms, scratch: int, together: Callable[[int], bool], drawn: bool
    ) -> None:
        """
        A step with `request` of its rows playing the request; half of them are the proxies of a resistance term. With
        `drawn` these are other rows (the proxies as many again), in passes of `rows` at most, and all rows of the step
        are stable. `together` says of a number of rows whether they share one forward.
        """
        _held = self._read(rows)
        if drawn:
            request = min(request, rows)
            proxy, stable, rest = request if terms.lambda_resistance else 0, rows, rows
        else:
            proxy = request // 2 if terms.lambda_resistance else 0
            request -= proxy
            stable, rest = max(1, rows - request - proxy), max(1, rows - request)
        moved = "at the simulated request"

        def rows_of(kind: str, n: int):
            return _SimulatedPass(self, f"a pass over {_rows(n)} ({kind}) {moved}", lambda: self.mean_loss(n))

        joint = _SimulatedJointPass(self, request, stable, f"a pass over {_rows(request + stable)} {moved}")
        in_one = not drawn and terms.meta_gradient == "first_order" and together(request + stable)
        share = 1.0 if drawn else request / rows
        loss = _SimulatedPass(
            self, f"a pass over {_rows(request)} (request)", lambda: self.mean_loss(request)
        ).add_gradient(share)
        with self.ledger.during("readiness", "the arithmetic of the readiness gradient"):
            readiness_gradient(
                self.parameters,
                revocable=rows_of("request", request),
                stable=rows_of("stable", stable),
                proxy=rows_of("proxy", proxy or stable),
                terms=terms,
                revocable_loss=loss,
                share=share,
                counted=not drawn,
                both=joint if in_one else None,
            )
        if drawn or rest > stable:  # else it holds less than the stable rows' pass, which had the copy beside it
            _SimulatedPass(self, f"a pass over {_rows(rest)} (the rest)", lambda: self.mean_loss(rest)).add_gradient(
                1.0
            )
        self._step(scratch)

    def unlearn(self, rows: int, together: bool, scratch: int, resists: bool = False) -> None:
        """A step on as many forget rows as retain rows, in one pass or in turn; before it, a simulated recovery."""
        _held = self._read(2 * rows)
        if resists:

            def half(kind: str, n: int):
                return _SimulatedPass(
                    self, f"a pass over {_rows(n)} ({kind}), a simulated recovery", lambda: self.row_losses(n).sum()
                )

            halves = {"held": half("held out", rows - rows // 2), "proxy": half("proxy", max(1, rows // 2))}
            with self.ledger.during("readiness", "the arithmetic of the simulated recovery"):
                recovery_gradient(self.parameters, **halves, steps=2, lr=0.01, slope=lambda loss: 1.0)
        n, kinds = (2 * rows, ["forget and retain"]) if together else (rows, ["forget", "retain"])
        for kind in kinds:
            _SimulatedPass(self, f"a pass over {_rows(n)} ({kind})", lambda: self.row_losses(n).sum()).add_gradient(1.0)
        self._step(scratch)

    def look(self, rows: int) -> None:
        """The losses of rows, without gradients."""
        self.model.eval()
        with torch.no_grad(), self.passing(f"a look at {_rows(rows)}, forward alone"):
            self.row_losses(rows)
        self.model.train()


def _rows(n: int) -> str:
    return f"{n} row" + "s" * (n > 1)
