"""What a step costs beside its time: bytes, the error of its gradient; and what a row table costs beside its passes."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from recipes.tools.bench.contenders import Bench
from recipes.tools.bench.turns import synchronise


@dataclass(frozen=True)
class Figure:
    """One line of the table: `contender` over `baseline`, of what `measure` says."""

    key: str
    what: str
    contender: str
    baseline: str
    target: float | None = None
    floor: float | None = None
    measure: str = "time"


def one_step(trainer, measure):
    """
    `measure(run)` of the passes of a trainer's second step, optimizer state at hand, gradients not; returns its value
    and the gradient.
    """
    from transformers import TrainerCallback

    found = {}
    step, calls = trainer.training_step, []

    def training_step(*args, **kwargs):
        calls.append(None)
        if len(calls) != 2:
            return step(*args, **kwargs)
        kept = []
        found["value"] = measure(lambda: kept.append(step(*args, **kwargs)))
        found["gradient"] = [p.grad.detach().clone() for p in trainer.model.parameters() if p.grad is not None]
        return kept[0]

    class End(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = bool(found)

    trainer.training_step = training_step
    trainer.add_callback(End())
    trainer.train()
    return found["value"], found["gradient"]


def saved_bytes(model, run) -> int:
    """The peak of what autograd keeps for backward while `run()` goes on, in bytes; parameters are not counted."""
    import weakref

    import torch

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, list[int]] = {}  # address -> [times kept, bytes]
    sizes = {"now": 0, "peak": 0}

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor

    def release(address):
        entry = held[address]
        entry[0] -= 1
        if not entry[0]:
            sizes["now"] -= held.pop(address)[1]

    def pack(tensor):
        kept, storage = Kept(tensor), tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in own:
            entry = held.setdefault(address, [0, storage.nbytes()])
            sizes["now"] += 0 if entry[0] else entry[1]
            sizes["peak"] = max(sizes["peak"], sizes["now"])
            entry[0] += 1
            weakref.finalize(kept, release, address)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        run()
    return sizes["peak"]


def ratio_of_bytes(bench: Bench, figure: Figure, cache: dict) -> float:
    """
    Activations by saved tensors. What comes on top of plain training: on four rows of two tokens and a small
    vocabulary, where the weights are all but everything. (Gradients and activations meet in a ready step, which they
    do not in a plain one, and autograd holds the gradient of one matrix while it adds it.)
    """
    from hf_unlearn.memory.measured_peak import peak_bytes

    weights_only = {"batch_size": 4, "length": 2, "vocab_size": 64, "layers": 12, "hidden_size": 384}
    short = Bench(argparse.Namespace(**vars(bench.args) | weights_only), bench.folder)

    def value(name: str) -> int:
        if (name, figure.measure) not in cache:
            trainer = (short if figure.measure == "extra" else bench).make(name)
            measure = peak_bytes if figure.measure == "extra" else lambda run: saved_bytes(trainer.model, run)
            cache[name, figure.measure] = one_step(trainer, measure)[0]
            cache["trainable"] = sum(p.nbytes for p in trainer.model.parameters() if p.requires_grad)
        return cache[name, figure.measure]

    if figure.measure == "extra":
        return (value(figure.contender) - value(figure.baseline)) / cache["trainable"]
    return value(figure.contender) / value(figure.baseline)


def collect_ratios(bench: Bench, figure: Figure, rounds: int) -> list[float]:
    """
    Times of `collect` over those of the model's forwards alone, in turn: same rows, batches and collator, no gradient,
    no labels, no cache.
    """
    import torch
    from transformers import ViTConfig, ViTForImageClassification, default_data_collator

    from hf_unlearn import collect

    size, n = bench.args.batch_size, 8 * bench.args.batch_size
    if figure.contender == "lm":
        model, more = bench.model(), {"use_cache": False}
        rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in bench.rows]
    else:
        shape = {"image_size": 32, "patch_size": 4, "hidden_size": bench.args.hidden_size, "num_attention_heads": 4}
        sizes = {"num_hidden_layers": bench.args.layers, "intermediate_size": 2 * bench.args.hidden_size}
        model, more = ViTForImageClassification(ViTConfig(**shape, **sizes, num_labels=10)), {}
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn(n, 3, 32, 32, generator=generator)
        rows = [{"pixel_values": image, "labels": i % 10} for i, image in enumerate(pixels)]
    model.eval().to("cpu" if bench.args.cpu else "cuda")

    def bare():
        with torch.no_grad():
            for start in range(0, n, size):
                batch = default_data_collator(rows[start : start + size])
                model(**{k: v.to(model.device) for k, v in batch.items() if k != "labels"}, **more)

    def table():
        collect(model, rows, default_data_collator, batch_size=size)

    def seconds(run) -> float:
        synchronise()
        start = time.perf_counter()
        run()
        synchronise()
        return time.perf_counter() - start

    found = []
    for turn in range(rounds + 1):  # the first is to warm up
        order = (table, bare) if turn % 2 else (bare, table)
        times = {run: seconds(run) for run in order}
        found.append(times[table] / times[bare])
    return found[1:]


def gradient_error(bench: Bench, figure: Figure) -> float:
    """‖a - b‖ / ‖b‖ of the readiness terms' gradients of contender and baseline, the plain gradient taken off."""

    def gradient(name):
        return one_step(bench.make(name), lambda run: run())[1]

    plain, ours, theirs = gradient("off"), gradient(figure.contender), gradient(figure.baseline)
    apart = sum(float((a - b).double().norm() ** 2) for a, b in zip(ours, theirs, strict=True))
    whole = sum(float((b - p).double().norm() ** 2) for b, p in zip(theirs, plain, strict=True))
    return (apart / whole) ** 0.5
