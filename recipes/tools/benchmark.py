"""What a step costs: ratios of times taken in turn in one process, with passes, tokens and bytes beside them.

    python recipes/tools/benchmark.py [--json] [--rounds 12] [--only ready_first_order unlearn_open]

Each contender is a real trainer in a thread of its own, let go one step at a time: in each round every one takes its
steps, in another order, and only one runs at any time. A figure is the median over the rounds of its time per step
over that of the stock Trainer in the same round. The learning rate is 0, so that all steps of a contender are alike.
Passes: rows through forward (a third) and backward (two thirds) per row of the baseline's batch, counted by hooks.
Activations: the peak of what autograd keeps for backward. Memory: the allocator's peak over the whole step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[2])


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


HALF = "revocable rows half the batch"
FIGURES = [
    Figure("ready_first_order", "ready step, first order, all rows at θ'", "first_order", "plain", 2.10, 2.0),
    Figure("ready_sparse", "the same, half the rows, every 4th step", "sparse", "plain", 1.20, 1.125),
    Figure("ready_finite_difference", f"ready step, finite difference, {HALF}", "fd", "plain", 2.65, 2.5),
    Figure("finite_difference_error", "  its gradient's distance from exact", "fd", "exact", 0.01, None, "error"),
    Figure("finite_difference_activations", "  its activations", "fd", "plain", 1.05, 1.0, "activations"),
    Figure("fd_vs_exact_time", "finite difference vs double backward, time", "fd", "exact", 0.85),
    Figure("fd_vs_exact_memory", "  activations", "fd", "exact", 0.5, None, "activations"),
    Figure("ready_extra_memory", "first order, bytes on top of plain over weights'", "in_turn", "plain", 1.05, 1.0,
           "extra"),
    Figure("unlearn_open", "unlearn step, gate open", "open", "half", 2.05, 2.0),
    Figure("unlearn_open_activations", "  its activations", "open", "half", 1.05, 1.0, "activations"),
    Figure("unlearn_closed", "unlearn step, gate shut", "shut", "half", 1.45, 1.333),
    Figure("unlearn_closed_every_8", "  looked at every 8th step", "shut_8", "half", 1.10, 1.042),
    Figure("features_off", "all features off vs the stock Trainer", "off", "plain", 1.02, 1.0),
    Figure("vs_npo_kl", "unlearn step, gate open, vs NPO with KL", "open", "npo_kl", 0.70),
    Figure("ready_drawn", "ready step, half a batch drawn for the request", "drawn", "plain", None),
    Figure("ready_inner_steps_3", "ready step, first order, 3 inner steps", "steps_3", "plain", None),
    Figure("ready_relearn", "first order with relearn", "relearn", "plain", None),
    Figure("ready_relearn_finite_difference", "finite difference with relearn", "fd_relearn", "plain", None),
    Figure("ready_align", "first order with align", "align", "plain", None),
    Figure("ready_finite_difference_steps_3", "finite difference, 3 inner steps", "fd_steps_3", "plain", None),
    Figure("unlearn_open_together", "unlearn step, gate open, one forward", "together", "half", None, 2.0),
    Figure("collect", "row table of a language model vs bare forwards", "lm", "lm", 1.15, 1.0, "collect"),
    Figure("collect_images", "the same, an image classifier", "vit", "vit", 1.15, 1.0, "collect"),
]  # fmt: skip
CYCLES = {"sparse": 4, "shut_8": 8, "plain": 3, "half": 4}  # steps of one round; others take two
BATCH = {"lambda_efficiency": 0.1, "lambda_retention": 1.0, "request_rows": 0}  # the batch's own rows ask


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--only", nargs="+", metavar="KEY", help="only these figures")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=16, help="rows of a ready step; an unlearn step has 8 + 8")
    parser.add_argument("--length", type=int, help="tokens of a row; default: 64 on a CPU, 1024 on a GPU")
    parser.add_argument("--hidden_size", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab_size", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast over fp32 weights")
    parser.add_argument("--cpu", action="store_true", help="on the CPU though there is a GPU")
    args = parser.parse_args(argv)
    known = [figure.key for figure in FIGURES]
    if unknown := sorted(set(args.only or []) - set(known)):
        parser.error(f"no figure {', '.join(unknown)}; there are {', '.join(known)}")
    if args.length is None:
        import torch

        args.length = 64 if args.cpu or not torch.cuda.is_available() else 1024
    for name in ("rounds", "batch_size", "length", "hidden_size", "layers", "vocab_size", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.batch_size % 4 or args.hidden_size % 8:
        parser.error("--batch_size must be a multiple of 4 and --hidden_size one of 8")
    return args


class Bench:
    """Builds the contenders: one small Llama each, the same weights, the same rows."""

    def __init__(self, args, folder: str):
        import torch
        from datasets import Dataset

        self.args, self.folder, self.weights = args, folder, None
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(3, args.vocab_size, (8 * args.batch_size, args.length), generator=generator).tolist()
        self.rows = Dataset.from_list(
            [{"input_ids": row, "labels": row, "half": i % 2 == 0, "quarter": i % 4 == 0} for i, row in enumerate(ids)]
        ).with_format("torch")

    def model(self):
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        size = self.args.hidden_size
        config = LlamaConfig(
            vocab_size=self.args.vocab_size,
            hidden_size=size,
            intermediate_size=3 * size,
            num_hidden_layers=self.args.layers,
            num_attention_heads=max(1, size // 64),
            max_position_embeddings=self.args.length,
        )
        model = LlamaForCausalLM(config)
        if self.weights is None:
            self.weights = self._a_little_trained(model)
        model.load_state_dict(self.weights)
        return model

    def _a_little_trained(self, model) -> dict:
        """A model that knows something: gradients of an untrained one are not like those of any real run."""
        import torch

        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for i in range(20):
            ids = self.rows[(i % 4) * self.args.batch_size : (i % 4 + 1) * self.args.batch_size]["input_ids"]
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return model.state_dict()

    def settings(self, name: str, rows: int) -> dict:
        return {
            "output_dir": os.path.join(self.folder, name),
            "per_device_train_batch_size": rows,
            "learning_rate": 0.0,
            "lr_scheduler_type": "constant",
            "max_steps": 1_000_000,
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "log_level": "error",
            "bf16": self.args.bf16,
            "use_cpu": self.args.cpu,
            "dataloader_pin_memory": False,
        }

    def plain(self, name: str, rows: int):
        from transformers import Trainer, TrainingArguments, default_data_collator

        rows_of = self.rows.remove_columns(["half", "quarter"])
        args = TrainingArguments(**self.settings(name, rows))
        return Trainer(self.model(), args, train_dataset=rows_of, data_collator=default_data_collator)

    def ready(self, name: str, revocable: str = "half", **options):
        from transformers import default_data_collator

        from hf_unlearn import ReadyConfig, ReadyTrainer

        args = ReadyConfig(**self.settings(name, self.args.batch_size), meta_start=0.0, **(BATCH | options))
        return ReadyTrainer(self.model(), args, self.rows, revocable=revocable, data_collator=default_data_collator)

    def unlearn(self, name: str, tau: float, **options):
        import dataclasses

        from transformers import TrainerCallback, default_data_collator

        from hf_unlearn import UnlearnConfig, UnlearnTrainer

        class Gate(TrainerCallback):
            def on_train_begin(self, *args, **kwargs):
                trainer.request = dataclasses.replace(trainer.request, tau=tau)

        rows, half = self.args.batch_size // 2, len(self.rows) // 2
        args = UnlearnConfig(**self.settings(name, rows), target="frozen", stop=False, passes="100000", **options)
        sets = (range(half), range(half, 2 * half - rows), range(2 * half - rows, 2 * half))
        trainer = UnlearnTrainer(
            self.model(), args, *(self.rows.select(s) for s in sets), data_collator=default_data_collator
        )
        trainer.add_callback(Gate())
        return trainer

    def npo_kl(self, name: str):
        """NPO (Zhang et al. 2024) with KL to a frozen copy on the retain rows, as public frameworks write it."""
        import torch
        from torch.nn import functional as F
        from transformers import Trainer, TrainingArguments

        reference = self.model().eval().to("cpu" if self.args.cpu else "cuda")

        def sums(model, batch):
            logits = model(**batch).logits[:, :-1]
            return F.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:], reduction="none").sum(1)

        class Npo(Trainer):
            reference_model = reference

            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
                forget, retain = inputs["forget"], inputs["retain"]
                ours = sums(model, forget)
                with torch.no_grad(), self.accelerator.autocast():
                    theirs = sums(reference, forget)
                beta = 0.1
                loss = -2 / beta * F.logsigmoid(beta * (ours - theirs)).mean()
                with torch.no_grad(), self.accelerator.autocast():
                    wanted = F.log_softmax(reference(**retain).logits, -1).flatten(0, 1)
                got = F.log_softmax(model(**retain).logits, -1).flatten(0, 1)
                return loss + F.kl_div(got, wanted, reduction="batchmean", log_target=True)

        half = self.args.batch_size // 2

        def collate(rows):
            ids = torch.stack([row["input_ids"] for row in rows])
            sides = {"forget": ids[:half], "retain": ids[half:]}
            return {side: {"input_ids": x, "labels": x} for side, x in sides.items()}

        args = TrainingArguments(**self.settings(name, self.args.batch_size), remove_unused_columns=False)
        return Npo(self.model(), args, train_dataset=self.rows, data_collator=collate)

    def make(self, name: str):
        from transformers import PrinterCallback

        rows = self.args.batch_size
        fd = {"meta_gradient": "finite_difference"}
        relearn = {"resistance": "relearn", "lambda_resistance": 0.5}
        build = {
            "plain": lambda: self.plain(name, rows),
            "half": lambda: self.plain(name, rows // 2),
            "off": lambda: self.ready(name, lambda_efficiency=0.0, lambda_retention=0.0),
            "first_order": lambda: self.ready(name),
            "in_turn": lambda: self.ready(name, meta_forward="in_turn"),
            "drawn": lambda: self.ready(name, request_rows=rows // 2),
            "sparse": lambda: self.ready(name, "quarter", meta_rows=0.5, meta_every=4),
            "fd": lambda: self.ready(name, **fd),
            "exact": lambda: self.ready(name, meta_gradient="exact"),
            "steps_3": lambda: self.ready(name, inner_steps=3),
            "fd_steps_3": lambda: self.ready(name, inner_steps=3, **fd),
            "relearn": lambda: self.ready(name, **relearn),
            "fd_relearn": lambda: self.ready(name, **relearn, **fd),
            "align": lambda: self.ready(name, resistance="align", lambda_resistance=0.5),
            "open": lambda: self.unlearn(name, 1e3),
            "together": lambda: self.unlearn(name, 1e3, forget_forward="together"),
            "shut": lambda: self.unlearn(name, 1e-3),
            "shut_8": lambda: self.unlearn(name, 1e-3, gate_every=8),
            "npo_kl": lambda: self.npo_kl(name),
        }
        trainer = build[name]()
        trainer.remove_callback(PrinterCallback)
        return trainer


class Stop(Exception):
    """Ends a contender's run."""


@dataclass
class Passes:
    """Rows through the forward and the backward of a model and of a second one beside it."""

    forward: int = 0
    backward: int = 0
    tokens: int = 0

    def watch(self, model) -> None:
        def after(module, args, kwargs, output):
            logits = output.logits
            self.forward += len(logits)
            self.tokens += logits.shape[0] * logits.shape[1]
            if logits.requires_grad:
                logits.register_hook(lambda grad: self.__setattr__("backward", self.backward + len(grad)))

        model.register_forward_hook(after, with_kwargs=True)

    @property
    def rows(self) -> float:
        return self.forward / 3 + self.backward * 2 / 3


@dataclass
class Contender:
    """A trainer that runs in a thread and waits before each step until it is let go."""

    name: str
    trainer: object
    passes: Passes = field(default_factory=Passes)
    times: list[float] = field(default_factory=list)  # seconds per step, one a round
    error: BaseException | None = None

    def __post_init__(self):
        from transformers import TrainerCallback

        outer = self
        self.go, self.here, self.over = threading.Semaphore(0), threading.Semaphore(0), False

        class Pace(TrainerCallback):
            def on_step_begin(self, *args, **kwargs):
                outer.here.release()
                outer.go.acquire()
                if outer.over:
                    raise Stop

        for model in (self.trainer.model, getattr(self.trainer, "reference_model", None)):
            if model is not None:
                self.passes.watch(model)
        self.trainer.add_callback(Pace())
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self._arrive()

    def _run(self):
        try:
            self.trainer.train()
        except Stop:
            pass
        except BaseException as error:  # told to the main thread
            self.error = error
        finally:
            self.here.release()

    def _arrive(self):
        self.here.acquire()
        if self.error is not None:
            raise RuntimeError(f"The contender {self.name!r} failed.") from self.error

    def steps(self, n: int) -> float:
        """Seconds per step."""
        synchronise()
        start = time.perf_counter()
        for _ in range(n):
            self.go.release()
            self._arrive()
        synchronise()
        return (time.perf_counter() - start) / n

    def end(self):
        self.over = True
        self.go.release()
        self.thread.join()


def synchronise():
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(bench: Bench, names: list[str], rounds: int) -> dict[str, Contender]:
    contenders = {name: Contender(name, bench.make(name)) for name in names}
    per_step = {}
    for name, contender in contenders.items():
        contender.steps(1)  # the first step allocates the optimizer's state
        before = Passes(**vars(contender.passes))
        cycle = CYCLES.get(name, 2)
        contender.steps(cycle)
        now = contender.passes
        per_step[name] = Passes(*((getattr(now, k) - getattr(before, k)) / cycle for k in vars(before)))
    order = list(names)
    for _ in range(rounds):
        random.Random(len(contenders[names[0]].times)).shuffle(order)
        for name in order:
            contenders[name].times.append(contenders[name].steps(CYCLES.get(name, 2)))
    for name, contender in contenders.items():
        contender.end()
        contender.passes = per_step[name]
    return contenders


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
    from hf_unlearn.memory.peak import peak_bytes

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


def results(bench: Bench, figures: list[Figure], rounds: int) -> list[dict]:
    clocked = [figure for figure in figures if figure.measure == "time"]
    names = list(dict.fromkeys(name for figure in clocked for name in (figure.contender, figure.baseline)))
    contenders = timed(bench, names, rounds) if names else {}
    cache: dict = {}
    lines = []
    for figure in figures:
        line = {"key": figure.key, "what": figure.what, "target": figure.target, "floor": figure.floor}
        if figure.measure == "time":
            ours, theirs = contenders[figure.contender], contenders[figure.baseline]
            ratios = [a / b for a, b in zip(ours.times, theirs.times, strict=True)]
            line["value"] = median(ratios)
            line["quartiles"] = quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2
            line["passes"] = None if "exact" in figure.contender else ours.passes.rows / theirs.passes.rows
            line["passes"] = None if "exact" in figure.baseline else line["passes"]
            line["tokens"] = ours.passes.tokens
            line["seconds"] = median(ours.times)
        elif figure.measure == "collect":
            ratios = collect_ratios(bench, figure, rounds)
            line["value"] = median(ratios)
            line["quartiles"] = quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2
        elif figure.measure == "error":
            line["value"] = gradient_error(bench, figure)
        else:
            line["value"] = ratio_of_bytes(bench, figure, cache)
        line["met"] = None if figure.target is None else line["value"] <= figure.target
        lines.append(line)
    return lines


def table(lines: list[dict], args, machine: str) -> str:
    rows = [("figure", "key", "must be", "is", "middle half", "passes", "tokens")]
    for line in lines:
        target = "" if line["target"] is None else f"≤ {line['target']:g}"
        small = line["value"] < 0.01
        spread = " – ".join(f"{q:.2f}" for q in line["quartiles"]) if "quartiles" in line else ""
        mark = "" if line["met"] is not False else " !"
        rows.append(
            (
                line["what"],
                line["key"],
                target,
                (f"{line['value']:.1e}" if small else f"{line['value']:.3f}") + mark,
                spread,
                "" if line.get("passes") is None else f"{line['passes']:.3f}",
                "" if "tokens" not in line else f"{line['tokens']:.0f}",
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = (
        f"{machine}; Llama, hidden size {args.hidden_size}, {args.layers} layers, vocabulary {args.vocab_size}; "
        f"{args.batch_size} rows of {args.length} tokens; {args.rounds} rounds"
    )
    missed = [line["key"] for line in lines if line["met"] is False]
    foot = f"Beyond what they must be: {', '.join(missed)}." if missed else "All are what they must be."
    return "\n".join([head, "", *text, "", foot])


def main(argv=None) -> None:
    args = arguments(argv)
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler, which counts bytes, is silent
    import torch

    torch.set_num_threads(args.threads)
    gpu = torch.cuda.is_available() and not args.cpu
    args.cpu = not gpu
    machine = torch.cuda.get_device_name() if gpu else f"CPU, {args.threads} thread(s)"
    machine += f", {'bf16 autocast' if args.bf16 else 'float32'}, torch {torch.__version__}"
    figures = [figure for figure in FIGURES if args.only is None or figure.key in args.only]
    with tempfile.TemporaryDirectory() as folder:
        lines = results(Bench(args, folder), figures, args.rounds)
    if args.json:
        found = {line["key"]: round(line["value"], 6) for line in lines}
        print(json.dumps(found | {"machine": machine, "arguments": vars(args), "figures": lines}))
    else:
        print(table(lines, args, machine))


if __name__ == "__main__":
    main()
