"""
Runs that are the same on one process and on two: imported, for the one; for two, a script under `torchrun`.

    torchrun --standalone --nproc_per_node 2 tests/helpers/ranks.py (ddp | fsdp2) START.pt OUT_DIR
    torchrun --standalone --nproc_per_node 1 tests/helpers/ranks.py gpu START.pt OUT_DIR

Each rank saves what its runs ended with in OUT_DIR/RANK.pt, by the name of the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import conftest  # noqa: F401  settings that must stand before torch

import torch
from helpers.tiny import cheap_collections, lm64, lm_rows, tokenizer
from transformers import TrainerCallback

from hf_unlearn import NonFiniteError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer
from hf_unlearn.readiness.passes import Pass

STEP_ROWS = 8  # on all processes and micro-batches
RAGGED = {"short": 4, "long": 24}
QUIET = {"report_to": [], "log_level": "error", "use_cpu": True, "save_strategy": "no", "logging_steps": 1}
QUIET |= {"disable_tqdm": True, "dataloader_pin_memory": False, "lr_scheduler_type": "constant"}


# ---- the core functions, on a small model of plain torch ----


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


KINDS = ("revocable", "stable", "proxy")
TERMS = {
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
        rng = torch.Generator().manual_seed(100 * KINDS.index(kind) + i)
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

        before = [_shard(p.detach()).clone() for p in self.params]
        self.clear()
        loss = self.run("revocable").add_gradient(share)
        parts = readiness_gradient(
            self.params,
            **{kind: self.run(kind) for kind in KINDS},
            terms=Terms(**{"inner_lr": 0.1, **terms}),
            revocable_loss=loss,
            share=share,
            reduce=self.reduce,
        )
        same = all(torch.equal(_shard(p.detach()), b) for p, b in zip(self.params, before, strict=True))
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
        grads, before = moving_weights.gradients(self.params), [_shard(p.detach()).clone() for p in self.params]
        found = {
            "norm": float(moving_weights.norm(grads, self.reduce)),
            "inner product": float(moving_weights.inner_product(self.params, grads, self.reduce)),
        }
        with moving_weights.perturbed(self.params, grads, 0.5):
            found["moved"] = [whole(p) for p in self.params]
        copies = moving_weights.copies_of(self.params, "cpu")
        moving_weights.move_(self.params, grads, -2.0)
        moving_weights.put_(self.params, copies)
        found["restored"] = all(torch.equal(_shard(p.detach()), b) for p, b in zip(self.params, before, strict=True))
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
            for name, terms in TERMS.items():
                for steps in (1, 3):
                    found[f"{mode} {name} {steps}"] = self.gradient(meta_gradient=mode, inner_steps=steps, **terms)
        found |= {f"nabla_tau {gap}": self.nabla_tau(gap) for gap in ("hinge", "squared")}
        found["small parts"] = self.small_parts()
        found["trajectory of readiness"] = self.trajectory(
            lambda: self.gradient(meta_gradient="finite_difference", **TERMS["relearn"])
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


# ---- the trainers ----


def set_engine() -> None:
    """Called between a config and its trainer."""


def launch(kind: str, start: Path, out: Path, ranks: int = 2, seconds: int = 400, **env: str) -> list[dict]:
    """What the runs of `kind` ended with, one dict a rank."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    out.mkdir(exist_ok=True)
    env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    done = subprocess.run(
        [*words, __file__, kind, str(start), str(out)], env=env, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stderr[-20000:]
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of the tensor on the CPU, of all its shards where it has some."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).to("cpu", copy=True)


def apart(a, b) -> float:
    """Largest relative difference in norm between two equally named or ordered lots of tensors."""
    a, b = (list(x.values()) if isinstance(x, dict) else list(x) for x in (a, b))
    size = max(float(y.norm()) for y in b)
    return max(float((x - y).norm() / y.norm().clamp_min(1e-9 * size)) for x, y in zip(a, b, strict=True))


class Watch(TrainerCallback):
    """Keeps each step's gradients, and whether weights and buffers are bit for bit what they were before it."""

    def __init__(self, keep: bool = True):
        self.keep, self.grads, self.restored, self.trainer = keep, [], True, None

    def _state(self):
        return [t.detach().clone() for t in (*self.trainer.trainable, *self.trainer.model.buffers())]

    def on_step_begin(self, args, state, control, **kwargs):
        self.before = self._state()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        after = self._state()
        same = [torch.equal(_shard(a), _shard(b)) for a, b in zip(self.before, after, strict=True)]
        self.restored = self.restored and all(same)
        if self.keep:
            self.grads.append([whole(p.grad) for p in self.trainer.trainable])


def _shard(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def finish(trainer, watch) -> dict:
    for module in trainer.model.modules():
        if hasattr(module, "reshard"):  # FSDP2: what was written to weights that a pass has left whole is lost
            module.reshard()
    names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    logs = [
        {k: float(v) for k, v in line.items() if isinstance(v, (int, float))}
        for line in trainer.state.log_history
        if "train_runtime" not in line
    ]
    return {
        "engine": type(trainer.model_wrapped).__name__,
        "weights": dict(zip(names, map(whole, trainer.trainable), strict=True)),
        "grads": watch.grads,
        "restored": watch.restored,
        "logs": logs,
        "steps": trainer.state.global_step,
    }


def ready(out, world: int, accumulation: int = 1, *, revocable="revocable", peft_config=None, rows=32, poison=(),
          poisoned="loss", **options):  # fmt: skip
    """
    A run of `ReadyTrainer` in float64, of two steps with all gradients kept, or of `max_steps`. In the steps `poison`
    the loss, or a part of the gradient, of the last rank is NaN.
    """
    own = {"max_steps": 2, "learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 0.0, "meta_start": 0.0}
    own |= {"inner_lr": 0.05, "lambda_efficiency": 0.5, "gradient_accumulation_steps": accumulation}
    own |= {"per_device_train_batch_size": STEP_ROWS // accumulation // world, "revocable_share": 0.4}
    own["request_rows"] = 0
    if options.get("resistance", "none") != "none":
        own["lambda_resistance"] = 0.7
    watch = Watch(options.get("max_steps", 2) == 2)
    config = ReadyConfig(str(out), **{**QUIET, **own, **options})
    set_engine()
    watch.trainer = trainer = ReadyTrainer(
        lm64(),
        config,
        lm_rows(rows, every=3, **RAGGED),
        revocable=revocable,
        processing_class=tokenizer(),
        peft_config=peft_config,
        callbacks=[watch],
    )
    last = trainer.accelerator.process_index == world - 1

    def now() -> bool:
        return last and trainer.state.global_step + 1 in poison

    compute, micro_step = trainer.compute_loss, trainer.micro_step

    def compute_loss(*args, **kwargs):
        loss = compute(*args, **kwargs)
        return loss * float("nan") if now() and poisoned == "loss" else loss

    def poisoned_step(*args, **kwargs):
        loss = micro_step(*args, **kwargs)
        if now() and poisoned == "gradient" and trainer.accelerator.sync_gradients:
            _shard(next(p.grad for p in trainer.trainable if _shard(p.grad).numel())).fill_(float("nan"))
        return loss

    trainer.compute_loss, trainer.micro_step = compute_loss, poisoned_step
    error = None
    try:
        trainer.train()
    except NonFiniteError as found:
        trainer.accelerator.wait_for_everyone()
        error = {"error": str(found), "saved": saved(out)}
    return finish(trainer, watch) | {"skipped": trainer.skipped_steps} | (error or {})


def saved(out) -> dict:
    from safetensors.torch import load_file

    return load_file(Path(out, "model.safetensors"))


def unlearn(out, world: int, accumulation: int = 1, model=None, peft_config=None, **options):
    """A run of `UnlearnTrainer` in float64, of 20 steps unless it may stop."""
    own = {"passes": "10", "learning_rate": 0.1, "optim": "sgd", "stop": False, "alpha": 0.3}
    own |= {"gradient_accumulation_steps": accumulation}
    own |= {"per_device_train_batch_size": STEP_ROWS // accumulation // world}
    watch = Watch(False)
    config = UnlearnConfig(str(out), **{**QUIET, **own, **options})
    set_engine()
    watch.trainer = trainer = UnlearnTrainer(
        model,
        config,
        lm_rows(16, **RAGGED),
        lm_rows(48, 16, **RAGGED),
        lm_rows(20, 100, **RAGGED),
        processing_class=tokenizer(),
        peft_config=peft_config,
        callbacks=[watch],
    )
    counted, back = [], trainer.looks._go_back
    trainer.looks._go_back = lambda *args: counted.append(trainer.state.global_step) or back(*args)
    trainer.train()
    found = finish(trainer, watch) | {"stop_reason": trainer.stop_reason, "went_back": counted}
    found["looked"] = ["forget_loss" in line for line in trainer.state.log_history if "loss" in line]
    if peft_config is None:
        trainer.save_model()
        trainer.accelerator.wait_for_everyone()
        found |= {"saved": saved(out), "loading_code": trainer.loading_code()}
    return found


def started(start) -> torch.nn.Module:
    """The model that has learnt the rows, from its saved weights."""
    model = lm64()
    model.load_state_dict(torch.load(start, weights_only=True) if isinstance(start, (str, Path)) else start)
    return model


def adapter():
    from peft import LoraConfig

    return LoraConfig(r=2, lora_alpha=8, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)


# ---- the runs, by name: a function of (out, world, accumulation, start) ----

MODES = ("first_order", "finite_difference")
RESISTANCES = ("none", "relearn", "align")


def gradient_runs() -> dict:
    """Two steps each, compared by their gradients."""
    runs = {}
    for mode in MODES:
        for resistance in RESISTANCES:
            for steps in (1, 3):
                for revocable in ("revocable", None):
                    kind = "named" if revocable else "any"
                    options = {"meta_gradient": mode, "resistance": resistance, "inner_steps": steps}
                    runs[f"{mode} {resistance} {steps} {kind}"] = _ready(revocable=revocable, **options)
    runs["efficiency loss"] = _ready(efficiency="loss", inner_normalize=False, inner_lr=0.5)
    runs["lora"] = _ready(adapter=True, meta_gradient="finite_difference")
    runs["drawn"] = _ready(request_rows=5, resistance="relearn", meta_gradient="finite_difference")
    runs["drawn, fewer than ranks"] = _ready(request_rows=1, meta_rows=0.5)
    runs["drawn groups"] = _ready(request_rows=5, revocable=None, request_group="id")
    uneven = {"rows": 15, "resistance": "relearn", "accelerator_config": {"even_batches": False}}
    runs["uneven named"] = _ready(**uneven)
    runs["uneven any"] = _ready(revocable=None, **uneven)
    return runs


def ready_runs() -> dict:
    """Trajectories of 20 steps."""
    second = {"meta_gradient": "finite_difference", "resistance": "relearn"}
    return {
        "first_order": _ready(max_steps=20),
        "finite_difference": _ready(max_steps=20, **second),
        "align": _ready(max_steps=20, resistance="align"),
        "drawn": _ready(max_steps=20, request_rows=6, meta_every=2),
        "any": _ready(max_steps=20, revocable=None, resistance="relearn"),
        "lora": _ready(max_steps=20, adapter=True, **second),
        "adamw": _ready(max_steps=20, optim="adamw_torch", learning_rate=1e-3),
        "poisoned": _ready(max_steps=5, poison=(2, 4)),
        "poisoned gradient": _ready(max_steps=5, poison=(2, 4), poisoned="gradient"),
        "poisoned to the end": _ready(max_steps=9, poison=range(3, 10)),
    }


def unlearn_runs() -> dict:
    """Trajectories of 20 steps, two that end by themselves: at the target, on the way back to it, and at the budget."""
    return {
        "hinge": _unlearn(gap="hinge", learning_rate=0.3),
        "squared": _unlearn(gap="squared", learning_rate=0.3),
        "matched": _unlearn(gap="matched"),
        "hinge in turn": _unlearn(gap="hinge", learning_rate=0.3, forget_forward="in_turn"),
        "matched in turn": _unlearn(gap="matched", forget_forward="in_turn"),
        "gate every 3": _unlearn(gap="hinge", learning_rate=0.3, forget_forward="in_turn", gate_every=3),
        "grad_diff": _unlearn(objective="grad_diff", gamma=0.1),
        "ranked": _unlearn(gap="ranked", learning_rate=0.03),
        "ranked in turn": _unlearn(gap="ranked", learning_rate=0.03, forget_forward="in_turn"),
        "npo": _unlearn(objective="npo", learning_rate=0.02),
        "npo in turn": _unlearn(objective="npo", learning_rate=0.02, forget_forward="in_turn"),
        "lora": _unlearn(gap="matched", adapter=True),
        "resistance": _unlearn(resistance="relearn", gap="squared"),
        "resistance, gate": _unlearn(
            resistance="relearn", objective="grad_diff", gamma=0.2, learning_rate=0.3, target="chance", gate_every=2
        ),
        "resistance lora": _unlearn(resistance="relearn", adapter=True),
        "adamw": _unlearn(gap="hinge", optim="adamw_torch", learning_rate=1e-3),
        "target": _unlearn(gap="hinge", learning_rate=0.3, stop=True, passes="40", retain_budget=20.0),
        "budget": _unlearn(gap="squared", stop=True, passes="40", alpha=0.4),
    }


def _ready(adapter=False, **options):
    def run(out, world, accumulation, start):
        return ready(out, world, accumulation, peft_config=globals()["adapter"]() if adapter else None, **options)

    return run


def _unlearn(adapter=False, **options):
    def run(out, world, accumulation, start):
        peft_config = globals()["adapter"]() if adapter else None
        return unlearn(out, world, accumulation, started(start), peft_config, **options)

    return run


def everything() -> dict:
    runs = {"gradient": gradient_runs(), "ready": ready_runs(), "unlearn": unlearn_runs()}
    return {f"{group}: {name}": run for group, named in runs.items() for name, run in named.items()}


def ddp(start, out) -> dict:
    results = {}
    try:
        ready(out, 2, meta_gradient="exact")
    except ValueError as error:
        results["exact"] = str(error)
    for name, run in everything().items():
        for accumulation in (1, 2):
            results[f"{name} / {accumulation}"] = run(out, 2, accumulation, start)
    return results


def shard_on_cpu() -> None:
    """
    Opens accelerate's own FSDP2 path on a CPU, where it is closed although torch shards over gloo just as well. To be
    called between a config, which makes the state anew, and its trainer.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    Accelerator(cpu=True)
    for state in (PartialState, AcceleratorState):
        state._shared_state["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state["fsdp_plugin"] = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )


def fsdp2(start, out) -> dict:
    global set_engine
    results = {"cores": cores(start, out)}
    set_engine = shard_on_cpu
    for name, run in everything().items():
        if not name.endswith(" any"):
            for accumulation in (1, 2):
                try:
                    results[f"{name} / {accumulation}"] = run(out, 2, accumulation, start)
                except ValueError as error:
                    results[f"{name} / {accumulation}"] = {"refused": str(error)}
    return results


GPU_RUNS = ("gradient: first_order relearn 1 named", "gradient: finite_difference align 3 named")
GPU_RUNS += ("gradient: lora", "ready: finite_difference", "ready: poisoned", "ready: poisoned to the end")
GPU_RUNS += ("unlearn: hinge", "unlearn: gate every 3", "unlearn: matched", "unlearn: target", "unlearn: budget")


def gpu(start, out) -> dict:
    """FSDP2 on one GPU, set up by the variables that `accelerate launch` sets, see [`fsdp2_variables`]."""
    QUIET["use_cpu"] = False
    results = {}
    for name in GPU_RUNS:
        for accumulation in (1, 2):
            try:
                results[f"{name} / {accumulation}"] = everything()[name](out, 1, accumulation, start)
            except ValueError as error:
                results[f"{name} / {accumulation}"] = {"refused": str(error)}
    return results


def fsdp2_variables() -> dict[str, str]:
    return {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }


def main(kind, start, out) -> None:
    from accelerate import PartialState

    PartialState(cpu=kind != "gpu")
    next(cheap_collections())
    results = {"ddp": ddp, "fsdp2": fsdp2, "gpu": gpu}[kind](start, out)
    torch.save(results, Path(out, f"{torch.distributed.get_rank()}.pt"))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
