"""
Runs that are the same on one process and on two. Each rank saves what its runs ended with in OUT_DIR/RANK.pt, by the
name of the run. On a GPU, which a forked process cannot have, it is a script:

    torchrun --standalone --nproc_per_node 1 tests/helpers/ranks.py START.pt OUT_DIR
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import conftest  # noqa: F401  settings that must stand before torch

import torch
from helpers.forked_ranks import on_ranks
from helpers.rank_cores import MODES, cores, shard, whole
from helpers.tiny import lm64, lm_rows, tokenizer
from helpers.unlearning import weighed
from transformers import TrainerCallback

from hf_unlearn import NonFiniteError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer
from hf_unlearn.readiness import pacing

STEP_ROWS = 8  # on all processes and micro-batches
RAGGED = {"short": 4, "long": 24}
QUIET = {"report_to": [], "log_level": "error", "use_cpu": True, "save_strategy": "no", "logging_steps": 1}
QUIET |= {"disable_tqdm": True, "dataloader_pin_memory": False, "lr_scheduler_type": "constant"}


def set_engine() -> None:
    """Called between a config and its trainer."""


def two(kind: str, start: Path, out: Path) -> list[dict]:
    """What the runs of `kind` (ddp, fsdp2) ended with on two ranks, one dict a rank."""
    on_ranks(lambda: main(kind, start, out), out, seconds=1200)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


def on_gpu(start: Path, out: Path) -> dict:
    """What the runs on one GPU ended with."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **fsdp2_variables()}
    done = subprocess.run(
        [*words, __file__, str(start), str(out)], env=env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-20000:]
    return torch.load(out / "0.pt", weights_only=True)


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
        same = [torch.equal(shard(a), shard(b)) for a, b in zip(self.before, after, strict=True)]
        self.restored = self.restored and all(same)
        if self.keep:
            self.grads.append([whole(p.grad) for p in self.trainer.trainable])


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


def loader_rows(options: dict, world: int, accumulation: int) -> int:
    """Rows of a loader's batch: those of all processes where batches are split among them."""
    split = options.get("accelerator_config", {}).get("split_batches", False)
    return STEP_ROWS // accumulation // (1 if split else world)


def own_mean(logits, labels, **kwargs):
    """A causal model's loss that ignores `num_items_in_batch`."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def ready(out, world: int, accumulation: int = 1, *, revocable="revocable", peft_config=None, rows=32, poison=(),
          poisoned="loss", loss=None, learned=pacing.LEARNED, **options):  # fmt: skip
    """
    A run of `ReadyTrainer` in float64, of two steps with all gradients kept, or of `max_steps`. In the steps `poison`
    the loss, or a part of the gradient, of the last rank is NaN. `loss`: the model's own, in place of the usual one.
    `learned`: the share of its first loss at which a model has learned.
    """
    own = {"max_steps": 2, "learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 0.0, "meta_start": 0.0}
    own |= {"inner_lr": 0.05, "lambda_efficiency": 0.5, "gradient_accumulation_steps": accumulation}
    own |= {"per_device_train_batch_size": loader_rows(options, world, accumulation)}
    own |= {"request_rows": 0} if revocable or options.get("request_group") else {"revocable_share": 0.4}
    if options.get("resistance", "none") != "none":
        own["lambda_resistance"] = 0.7
    watch = Watch(options.get("max_steps", 2) == 2)
    config = ReadyConfig(str(out), **{**QUIET, "readiness": "meta", **own, **options})
    set_engine()
    model = lm64()
    model.loss_function = loss or model.loss_function
    watch.trainer = trainer = ReadyTrainer(
        model,
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
            shard(next(p.grad for p in trainer.trainable if shard(p.grad).numel())).fill_(float("nan"))
        return loss

    trainer.compute_loss, trainer.micro_step = compute_loss, poisoned_step
    error = None
    try:
        with mock.patch.object(pacing, "LEARNED", learned):
            trainer.train()
    except NonFiniteError as found:
        trainer.accelerator.wait_for_everyone()
        error = {"error": str(found), "saved": saved(out)}
    return finish(trainer, watch) | {"skipped": trainer.skipped_steps} | (error or {})


def saved(out) -> dict:
    from safetensors.torch import load_file

    return load_file(Path(out, "model.safetensors"))


def unlearn(out, world: int, accumulation: int = 1, model=None, peft_config=None, general=False, **options):
    """A run of `UnlearnTrainer` in float64, of 10 steps unless it may stop."""
    own = {"passes": "5", "learning_rate": 0.1, "optim": "sgd", "stop": False, "target": "current"}
    own |= {"gradient_accumulation_steps": accumulation}
    own |= {"per_device_train_batch_size": loader_rows(options, world, accumulation)}
    watch = Watch(False)
    config = UnlearnConfig(str(out), **{**QUIET, **own, **weighed(0.3, options), **options})
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
        general_dataset=lm_rows(12, 300, **RAGGED) if general else "none",
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
    runs["split batches"] = _ready(request_rows=5, accelerator_config={"split_batches": True})
    runs["a loss that ignores the items"] = _ready(meta_start=0.5, loss=own_mean)
    uneven = {"rows": 15, "resistance": "relearn", "accelerator_config": {"even_batches": False}}
    runs["uneven named"] = _ready(**uneven)
    runs["uneven any"] = _ready(revocable=None, **uneven)
    return runs


def ready_runs() -> dict:
    """Trajectories of 8 steps, two epochs."""
    second = {"meta_gradient": "finite_difference", "resistance": "relearn"}
    return {
        "first_order": _ready(max_steps=8),
        "finite_difference": _ready(max_steps=8, **second),
        "align": _ready(max_steps=8, resistance="align"),
        "drawn": _ready(max_steps=8, request_rows=6, meta_every=2),
        "paced": _ready(max_steps=8, request_rows=5, meta_start="auto", meta_budget=2.0, learned=1.1),
        "any": _ready(max_steps=8, revocable=None, resistance="relearn"),
        "lora": _ready(max_steps=8, adapter=True, **second),
        "adamw": _ready(max_steps=8, optim="adamw_torch", learning_rate=1e-3),
        "poisoned": _ready(max_steps=5, poison=(2, 4)),
        "poisoned gradient": _ready(max_steps=5, poison=(2, 4), poisoned="gradient"),
        "poisoned to the end": _ready(max_steps=9, poison=range(3, 10)),
    }


def unlearn_runs() -> dict:
    """Trajectories of 10 steps, two that end by themselves: at the target, on the way back to it, and at the budget."""
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
            resistance="relearn",
            objective="grad_diff",
            gamma=0.2,
            learning_rate=0.3,
            target="chance",
            gate_every=2,
            passes="10",  # 20 steps, for its gate to shut
        ),
        "resistance lora": _unlearn(resistance="relearn", adapter=True),
        "adamw": _unlearn(gap="hinge", optim="adamw_torch", learning_rate=1e-3),
        "target": _unlearn(gap="hinge", learning_rate=0.3, stop=True, passes="40", retain_budget=20),
        "split batches": _unlearn(gap="hinge", learning_rate=0.3, accelerator_config={"split_batches": True}),
        "general": _unlearn(gap="squared", learning_rate=0.3, general=True),
        "budget": _unlearn(gap="squared", stop=True, passes="8", alpha=0.4),
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


# their gradients are compared on shards without a trainer (`rank_cores`), so that each pair of options is enough here
WITHOUT_SHARDS = (" any", "first_order none 3 named", "first_order relearn 1 named", "first_order align 3 named")
WITHOUT_SHARDS += ("finite_difference none 1 named", "finite_difference relearn 3 named")
WITHOUT_SHARDS += ("finite_difference align 1 named",)
BOTH_CUTS = ("ready: poisoned", "ready: poisoned gradient", "ready: poisoned to the end", "unlearn: budget")


def cuts(kind: str) -> list[tuple[str, int]]:
    """
    The runs of an engine on two processes, each with a number of micro-batches: 1 or 2 in turn, so that every option
    meets both; in both cuts what is asserted cut by cut.
    """
    names = [name for name in everything() if kind == "ddp" or not name.endswith(WITHOUT_SHARDS)]
    found = []
    for i, name in enumerate(names):
        found += [(name, a) for a in ((1, 2) if name in BOTH_CUTS else (1 + (i + i // 2) % 2,))]
    return found


def ddp(start, out) -> dict:
    results = {}
    try:
        ready(out, 2, meta_gradient="exact")
    except ValueError as error:
        results["exact"] = str(error)
    runs = everything()
    for name, accumulation in cuts("ddp"):
        results[f"{name} / {accumulation}"] = runs[name](out, 2, accumulation, start)
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
    runs = everything()
    for name, accumulation in cuts("fsdp2"):
        try:
            results[f"{name} / {accumulation}"] = runs[name](out, 2, accumulation, start)
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
    results = {"ddp": ddp, "fsdp2": fsdp2, "gpu": gpu}[kind](start, out)
    torch.save(results, Path(out, f"{torch.distributed.get_rank()}.pt"))


if __name__ == "__main__":
    from accelerate import PartialState

    PartialState()
    gc.freeze()  # each run of a trainer collects everything a few times
    main("gpu", *sys.argv[1:])
    torch.distributed.destroy_process_group()
