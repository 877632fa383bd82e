"""The readiness gradient and its parts on a small model of plain torch, whole on one process or sharded over two."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from helpers.toys import ROW_KINDS

from hf_unlearn.readiness.passes import Pass

MODES = ("first_order", "finite_difference")


class Tower(torch.nn.Module):
    """
    Float64, made to be sharded badly: odd sizes, a parameter of one number (no shard on rank 1), one without gradient.
    """

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.embed = torch.nn.Embedding(11, 5)
        self.layers = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 5)) for _ in range(2)
        )
        self.head = torch.nn.Linear(5, 11)
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.idle = torch.nn.Parameter(torch.ones(3, 2))
        self.double()

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x * self.scale)


TERMS_ON_SHARDS = {
    "gain": {"lambda_efficiency": 0.7, "lambda_retention": 0.0},
    "loss": {"lambda_efficiency": 0.7, "lambda_retention": 0.0, "efficiency": "loss"},
    "retention": {"lambda_efficiency": 0.0, "lambda_retention": 0.6},
    "relearn": {"lambda_efficiency": 0.7, "lambda_retention": 0.6, "lambda_resistance": 0.9, "resistance": "relearn"},
    "align": {"lambda_efficiency": 0.7, "lambda_retention": 0.6, "lambda_resistance": 0.9, "resistance": "align"},
    "plain step": {"inner_normalize": False, "inner_lr": 0.4, "lambda_efficiency": 0.7},
    "cap": {"lambda_efficiency": 0.7, "cap": 1e-9},
}


def tower_rows(kind: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Five ragged rows (ids, next ids) of a kind."""
    rows = []
    for i in range(5):
        rng = torch.Generator().manual_seed(100 * ROW_KINDS.index(kind) + i)
        ids = torch.randint(11, (2 + 5 * i,), generator=rng)
        rows.append((ids[:-1], ids[1:]))
    return rows


class Cores:
    """The functions of `meta` and `objectives` on this rank's rows and shards; whole on one rank."""

    def __init__(self, model, world: int = 1, rank: int = 0):
        self.model, self.world, self.rank = model, world, rank
        self.params = list(model.parameters())

    def reduce(self, value):
        if self.world > 1:
            torch.distributed.all_reduce(value := value.clone())
        return value

    def share(self, kind):
        """This rank's part of the kind's token mean, ()."""
        rows = tower_rows(kind)
        items = sum(len(y) for _, y in rows)
        losses = [
            torch.nn.functional.cross_entropy(self.model(x), y, reduction="sum")
            for k, (x, y) in enumerate(rows)
            if k % self.world == self.rank or len(rows) - k <= self.rank  # as many forwards on each rank
        ]
        mine = len(rows[self.rank :: self.world])
        return torch.stack(losses[:mine]).sum() / items + 0.0 * torch.stack(losses).sum()

    def run(self, kind):
        return RankPass(self, kind)

    def clear(self):
        for p in self.params:
            p.grad = None

    def gradient(self, share=0.4, **terms):
        """(gradient of main pass and readiness, components, whether the weights are what they were)."""
        from hf_unlearn.readiness.gradient import readiness_gradient
        from hf_unlearn.readiness.terms import Terms

        before = [shard(p.detach()).clone() for p in self.params]
        self.clear()
        loss = self.run("revocable").add_gradient(share)
        parts = readiness_gradient(
            self.params,
            **{kind: self.run(kind) for kind in ROW_KINDS},
            terms=Terms(**{"inner_lr": 0.1, **terms}),
            revocable_loss=loss,
            share=share,
            reduce=self.reduce,
        )
        same = all(torch.equal(shard(p.detach()), b) for p, b in zip(self.params, before, strict=True))
        grads = [torch.zeros(()) if p.grad is None else whole(p.grad) for p in self.params]
        return grads, {k: float(v) for k, v in parts.items()}, same

    def nabla_tau(self, gap: str):
        """The gradient of ∇τ's linear surrogate."""
        from hf_unlearn.objectives.registry import get_objective
        from hf_unlearn.objectives.surrogate import slopes

        self.clear()
        shares = self.share("revocable"), self.share("stable")
        means = [self.reduce(share.detach()) for share in shares]
        slope_f, slope_r = slopes(get_objective("nabla_tau", gap=gap), *means, alpha=0.3, tau=2.9)
        ((slope_f * shares[0] + slope_r * shares[1]) * self.world).backward()
        return [torch.zeros(()) if p.grad is None else whole(p.grad) for p in self.params]

    def small_parts(self) -> dict:
        from hf_unlearn.readiness import moving_weights

        self.clear()
        self.run("stable").add_gradient(1.0)
        grads, before = moving_weights.gradients(self.params), [shard(p.detach()).clone() for p in self.params]
        found = {
            "norm": float(moving_weights.norm(grads, self.reduce)),
            "inner product": float(moving_weights.inner_product(self.params, grads, self.reduce)),
        }
        with moving_weights.perturbed(self.params, grads, 0.5):
            found["moved"] = [whole(p) for p in self.params]
        copies = moving_weights.copies_of(self.params, "cpu")
        moving_weights.move_(self.params, grads, -2.0)
        moving_weights.put_(self.params, copies)
        found["restored"] = all(torch.equal(shard(p.detach()), b) for p, b in zip(self.params, before, strict=True))
        taken = moving_weights.take_gradients(self.params)
        moving_weights.add_gradients_(self.params, taken, 0.25)
        moving_weights.scale_gradients_(self.params, 8.0)
        found["twice"] = [torch.zeros(()) if p.grad is None else whole(p.grad) for p in self.params]
        return found

    def trajectory(self, step) -> list[torch.Tensor]:
        """Weights after six steps of Adam on what `step` leaves in `.grad`."""
        optimizer = torch.optim.Adam(self.params, lr=1e-2)
        for _ in range(6):
            step()
            optimizer.step()
        return [whole(p) for p in self.params]

    def everything(self) -> dict:
        found = {}
        for mode in MODES:
            for name, terms in TERMS_ON_SHARDS.items():
                for steps in (1, 3):
                    found[f"{mode} {name} {steps}"] = self.gradient(meta_gradient=mode, inner_steps=steps, **terms)
        found |= {f"nabla_tau {gap}": self.nabla_tau(gap) for gap in ("hinge", "squared")}
        found["small parts"] = self.small_parts()
        found["trajectory of readiness"] = self.trajectory(
            lambda: self.gradient(meta_gradient="finite_difference", **TERMS_ON_SHARDS["relearn"])
        )
        found["trajectory of nabla_tau"] = self.trajectory(lambda: self.nabla_tau("hinge"))
        return found


class RankPass(Pass):
    """A pass over this rank's rows of a kind."""

    def __init__(self, cores: Cores, kind: str):
        self.cores, self.kind = cores, kind

    def forward(self):
        cores = self.cores
        share = cores.share(self.kind)
        loss = cores.reduce(share.detach())

        def backward(weight):
            (share * weight * cores.world).backward()
            return loss

        return SimpleNamespace(loss=loss, backward=backward, drop=lambda: None)


def sharded(model):
    """`fully_shard` on each layer and on the whole, over a mesh of all ranks on the CPU."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def cores(start, out) -> dict:
    model = sharded(Tower())
    found = Cores(model, torch.distributed.get_world_size(), torch.distributed.get_rank()).everything()
    with torch.no_grad():  # a pass without backward leaves the root whole
        model(torch.arange(4))
    from hf_unlearn.trainers.engines import reshard

    found["whole after a pass"] = [not hasattr(p, "to_local") for p in model.parameters()]
    reshard(model)
    found["whole after reshard"] = [not hasattr(p, "to_local") for p in model.parameters()]
    return found


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of the tensor on the CPU, of all its shards where it has some."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).to("cpu", copy=True)


def shard(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
