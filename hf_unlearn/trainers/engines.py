"""Engines: the only file that branches on DDP, FSDP or DeepSpeed. Where none is in use, nothing here does anything."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, broadcast_object_list
from torch import Tensor


def total(accelerator, value: Tensor) -> Tensor:
    """Sum over processes, on every process."""
    if accelerator.num_processes == 1:
        return value
    return accelerator.reduce(value.to(accelerator.device), reduction="sum")


def decided_by_first(decide):
    """
    What `decide()` returns on the first process, on all of them; what it raises there is raised on all, so that none
    waits for one that has left.
    """
    processes = PartialState()  # there is no accelerator yet while a trainer looks at its arguments
    if processes.num_processes == 1:
        return decide()
    found = [None, None]
    if processes.is_main_process:
        try:
            found[0] = decide()
        except Exception as error:
            found[1] = error
    broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]


def is_first() -> bool:
    """Whether this is the first process, which speaks for all."""
    return PartialState().is_main_process


def this_device() -> torch.device:
    """The device of this process."""
    return PartialState().device


def shard_sum(accelerator):
    """A function that sums a scalar over the shards of a parameter; the identity where parameters are whole."""
    if accelerator.distributed_type == DistributedType.FSDP and accelerator.num_processes > 1:
        return lambda value: total(accelerator, value)
    return lambda value: value


def reshard(model) -> None:
    """
    Under FSDP2 a forward without backward leaves the outer layers whole: their parameters are then other objects, and
    what is written to them is lost. Afterwards all parameters are shards again.
    """
    if hasattr(model, "reshard"):
        for module in model.modules():
            if hasattr(module, "reshard"):
                module.reshard()


def class_name(model) -> str:
    """Name of the model's class, without the one that FSDP2 puts before it."""
    return next(kind for kind in type(model).__mro__ if not hasattr(kind, "reshard")).__name__


@contextmanager
def whole_state(accelerator):
    """Weights are saved whole in the block, also where FSDP is set to keep shards (then `save_model` writes none)."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    before = getattr(plugin, "state_dict_type", None)
    if plugin is None or "FULL_STATE_DICT" in str(before):
        yield
        return
    plugin.set_state_dict_type("FULL_STATE_DICT")
    try:
        yield
    finally:
        plugin.set_state_dict_type(before)


def unsynchronised(accelerator, model):
    """Gradients stay local in the block; a later backward with synchronisation reduces the sum."""
    if accelerator.num_processes == 1 or steps_in_backward(accelerator):
        return nullcontext()
    return accelerator.no_sync(model)


@contextmanager
def synchronised(accelerator, model):
    """Gradients are reduced at each backward in the block, also inside the Trainer's `no_sync`."""
    if hasattr(model, "require_backward_grad_sync"):  # DDP
        before, model.require_backward_grad_sync = model.require_backward_grad_sync, True
        try:
            yield
        finally:
            model.require_backward_grad_sync = before
        return
    if hasattr(model, "set_requires_gradient_sync"):  # FSDP2
        model.set_requires_gradient_sync(True)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(accelerator.sync_gradients)
        return
    yield


def gradients_at_hand(accelerator, model):
    """
    In the block each backward adds to `.grad` at once, where it can be scaled: local gradients under DDP, which the
    step's last backward reduces with its own; reduced shards under FSDP2, which keeps unreduced ones to itself.
    """
    if hasattr(model, "set_requires_gradient_sync"):
        return synchronised(accelerator, model)
    return unsynchronised(accelerator, model)


def uncompiled(model):
    """
    The model inside of what `torch.compile` made of it: for a pass that is taken once and pays for no graph of its own.
    A sharded one stays as it is, since its outermost layer gathers the weights.
    """
    return model if hasattr(model, "reshard") else getattr(model, "_orig_mod", model)


def steps_in_backward(accelerator) -> bool:
    """Whether the optimizer steps inside `backward`, so that nothing can come between the two (DeepSpeed)."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def engine_gradient_norm(accelerator) -> float:
    """Norm of the gradient with which an engine that steps inside `backward` has stepped; 0 where it tells none."""
    norm = accelerator.deepspeed_engine_wrapped.get_global_grad_norm()
    return 0.0 if norm is None else norm


def keeps_shards(accelerator) -> bool:
    """Whether parameters are in shards, which are saved and loaded in a form of their own."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def shards_of(accelerator) -> str | None:
    """Name of the engine that keeps parameters in shards; None: they are whole."""
    return accelerator.distributed_type.value if keeps_shards(accelerator) else None


def is_deterministic(device: torch.device) -> bool:
    """Whether a device's kernels give the same bits each time, as far as is known."""
    required = torch.are_deterministic_algorithms_enabled()
    return device.type == "cpu" or required and not torch.is_deterministic_algorithms_warn_only_enabled()


def kernels_of(device: torch.device) -> dict[str, str]:
    """What a device's kernels are chosen by: its model, or what its processor can do; and how precise products are."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"kernels": kind, "matmul": torch.get_float32_matmul_precision()}


def replay_problem(args) -> str | None:
    """Why a training by these arguments cannot be replayed bit for bit on its engine; None if it can."""
    if args.deepspeed or getattr(args, "deepspeed_plugin", None) is not None:
        return (
            "A training on DeepSpeed cannot be replayed: it keeps gradients and the optimizer to itself, and whether "
            "its checkpoints resume bit for bit is not known. Use DDP or FSDP2 (recipes/accelerate/fsdp2.yaml)."
        )
    return None


def several_backwards_problem(accelerator, what: str) -> str | None:
    """Why `what`, which needs several backwards before one optimizer step, cannot run here; None if it can."""
    if steps_in_backward(accelerator):
        return (
            f"{what} needs several backward passes with gradients at hand before one optimizer step; DeepSpeed steps "
            "inside backward and hides the gradients. Use DDP or FSDP2 (recipes/accelerate/fsdp2.yaml)."
        )
    return None


def accumulation_problem(accelerator) -> str | None:
    """Why a gate on the step's mean loss cannot be combined with accumulation here; None if it can."""
    return several_backwards_problem(accelerator, "A term on the mean forget loss of several micro-batches")


def wrapper_problem(model) -> str | None:
    """What is to be passed instead of a model that is wrapped or compiled already; None if it is neither."""
    if hasattr(model, "_orig_mod"):
        return (
            "`model` is compiled by `torch.compile`, which hides what its forward takes. Pass the model that was "
            "compiled, and set `torch_compile=True` in the config."
        )
    if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        return (
            f"`model` is wrapped in {type(model).__name__}, which hides what its forward takes. Pass the model inside "
            "(`model.module`); with one process per GPU, by `accelerate launch`, the trainer wraps it itself."
        )
    return None


def device_rng(device: torch.device):
    """The devices whose random state a pass may use beside the CPU's, for `torch.random.fork_rng`."""
    return [device] if device.type == "cuda" else []
