"""Whether both trainers compute on your engine what they should: PASS, or what differs.

    accelerate launch recipes/tools/check_engine.py
    accelerate launch --config_file recipes/accelerate/fsdp2.yaml recipes/tools/check_engine.py --peft

A tiny Llama-type model from a config and made-up rows of uneven lengths; nothing is downloaded. Each case trains it by
`ReadyTrainer` or `UnlearnTrainer` under the launched engine (one process, DDP, FSDP2, DeepSpeed) and compares weights
and logged losses with a plain loop over the same rows on one device, which knows the formulas and no trainer. What an
engine cannot do must be refused with a message, which counts as expected there. Exit status 0 or 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from hf_unlearn.cli import running
from hf_unlearn.utils.flags import with_underscores

VOCAB = 61
TOLERANCES = {"float32": 1e-4, "float64": 2e-5}  # in float64 too, norms and loss of a Llama go by float32
READY_LR, UNLEARN_LR, ALPHA, CAP = 0.05, 0.1, 0.3, 20.0
NPO_LR, NPO_BETA = 0.01, 0.1
INNER_LR, LAMBDA_EFFICIENCY, LAMBDA_RETENTION, LAMBDA_RESISTANCE = 0.002, 0.5, 1.0, 0.7
READY = {
    "first_order": {"meta_gradient": "first_order"},
    "finite_difference": {"meta_gradient": "finite_difference"},
    "first_order, relearn": {"meta_gradient": "first_order", "resistance": "relearn"},
    "finite_difference, relearn": {"meta_gradient": "finite_difference", "resistance": "relearn"},
}
UNLEARN = {
    "hinge": {"gap": "hinge", "forget_forward": "together"},
    "hinge, in turn": {"gap": "hinge", "forget_forward": "in_turn"},
    "matched": {"gap": "matched"},
    "ranked": {"gap": "ranked"},
    "npo": {"objective": "npo", "npo_beta": NPO_BETA, "learning_rate": NPO_LR},
}


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="Optimizer steps a case, an even number. Default: 20.")
    parser.add_argument("--dtype", choices=list(TOLERANCES), default="float32", help="Of the weights.")
    parser.add_argument("--tolerance", type=float, help="Largest relative difference. Default: 1e-4; float64: 2e-5.")
    parser.add_argument("--peft", action="store_true", help="Train a LoRA adapter instead of all weights.")
    parser.add_argument("--use_cpu", action="store_true", help="Do not use a GPU.")
    args = parser.parse_args(with_underscores(argv))
    if args.steps < 2 or args.steps % 2:
        parser.error(f"--steps is {args.steps}; it must be an even number of at least 2")
    return args


# ---- model and rows -------------------------------------------------------------------------------------------------


def build(flags):
    """The same model on each call and process."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
        attn_implementation="eager", initializer_range=0.1,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(getattr(torch, flags.dtype))
    if flags.peft:
        from peft import LoraConfig, get_peft_model

        # both halves random: from the usual start at zero, half of the adapter would not move at first
        model = get_peft_model(
            model, LoraConfig(r=4, lora_alpha=2, target_modules="all-linear", init_lora_weights=False)
        )
    return model


def make_rows(n: int, first: int, every: int = 3) -> list[dict]:
    """n rows of 4 to 24 tokens, the first two of them unlabelled; each `every`-th is revocable."""
    import numpy as np

    rows = []
    for i in range(first, first + n):
        rng = np.random.default_rng([11, i])
        ids = rng.integers(3, VOCAB, int(rng.integers(4, 25))).tolist()
        rows.append({"input_ids": ids, "labels": [-100, -100, *ids[2:]], "revocable": i % every == 0})
    return rows


def collate(rows: list[dict]) -> dict:
    import torch

    width = max(len(row["input_ids"]) for row in rows)

    def filled(values, fill):
        return torch.tensor([v + [fill] * (width - len(v)) for v in values])

    return {
        "input_ids": filled([row["input_ids"] for row in rows], 0),
        "attention_mask": filled([[1] * len(row["input_ids"]) for row in rows], 0),
        "labels": filled([row["labels"] for row in rows], -100),
    }


# ---- the formulas, once more ----------------------------------------------------------------------------------------


class Plain:
    """A plain loop of SGD on one device."""

    def __init__(self, flags, device):
        self.model = build(flags).to(device).train()
        self.device = device
        self.names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        self.start = {name: p.detach().clone() for name, p in zip(self.names, self.params, strict=True)}
        self.losses: list[dict[str, float]] = []

    def row_losses(self, rows, weights=None):
        """(sum of each row's losses, number of its labels), both (N,)."""
        import torch
        from torch.func import functional_call

        batch = {k: v.to(self.device) for k, v in collate(rows).items()}
        labels = batch.pop("labels")[:, 1:]
        swapped = dict(zip(self.names, self.params if weights is None else weights, strict=True))
        logits = functional_call(self.model, swapped, kwargs=batch).logits[:, :-1]
        chosen = torch.log_softmax(logits, -1).gather(-1, labels.clamp_min(0)[..., None])[..., 0]
        labelled = labels != -100
        return -(chosen * labelled).sum(1), labelled.sum(1)

    def mean(self, rows, weights=None):
        sums, counts = self.row_losses(rows, weights)
        return sums.sum() / counts.sum()

    def gradient(self, rows, at=None):
        """`(loss, its gradient)` at the weights `at`."""
        import torch

        at = [p.detach().requires_grad_() for p in (self.params if at is None else at)]
        loss = self.mean(rows, at)
        return loss.detach(), torch.autograd.grad(loss, at)

    def descend(self, gradient, lr: float) -> None:
        import torch

        with torch.no_grad():
            for p, g in zip(self.params, gradient, strict=True):
                p.sub_(lr * g)

    def readiness(self, request, stable, proxy, second: bool, resist: bool):
        """The gradient of λ1·E + λ2·L_r(θ') + λ3·R as in `hf_unlearn.readiness`; H·u by a finite difference."""
        theta = [p.detach() for p in self.params]
        size = length(theta)
        epsilon = 1e-4 * size

        def curved(rows, at, g, v):
            """(1/‖g‖)·H·u, u = v without its part along g."""
            u = plus(v, g, -inner(g, v) / inner(g, g))
            _, beside = self.gradient(rows, plus(at, u, epsilon / length(u)))
            return [(b - a) * (length(u) / epsilon / length(g)) for a, b in zip(g, beside, strict=True)]

        start, g = self.gradient(request)
        moved = plus(theta, g, INNER_LR * size / length(g))
        after, v = self.gradient(request, moved)
        gains = LAMBDA_EFFICIENCY * float(after - start < CAP)
        v = plus([-gains * x for x in v], self.gradient(stable, moved)[1], LAMBDA_RETENTION)
        if resist:
            _, q = self.gradient(proxy, moved)
            back, w = self.gradient(request, plus(moved, q, -INNER_LR * size / length(q)))
            w = [-LAMBDA_RESISTANCE * float(back < CAP) * x for x in w]
            v = plus(v, w, 1.0)
            if second:
                v = plus(v, curved(proxy, moved, q, w), -INNER_LR * size)
        if second:
            v = plus(v, curved(request, theta, g, v), INNER_LR * size)
        return plus(v, g, gains)

    def ready(self, rows, steps: int, step_rows: int, second: bool, resist: bool) -> None:
        for step in range(steps):
            first = step * step_rows % len(rows)
            batch = rows[first : first + step_rows]
            revocable = [row for row in batch if row["revocable"]]
            stable = [row for row in batch if not row["revocable"]]
            request, proxy = (revocable[::2], revocable[1::2]) if resist else (revocable, [])
            loss, main = self.gradient(batch)
            self.losses.append({"loss": float(loss)})
            self.descend(plus(main, self.readiness(request, stable, proxy or stable, second, resist), 1.0), READY_LR)

    def unlearn(self, args, objective, pairs, forget, retain, tau, targets, steps: int, step_rows: int) -> None:
        """
        α·ReLU(τ - L_f)² + (1 - α)·L_r; with targets α·mean (τ_i - ℓ_i)² + (1 - α)·L_r, ranked ones and losses as
        log(p / (1 - p)); NPO's mean (2/β)·log(1 + (p_i / q_i)^β) + L_r, q_i of the weights at the start.

        Args:
            args: the `UnlearnConfig`.
            objective: the registry's, which says what it needs; its formula is written here once more.
            targets: of the forget rows; empty where the objective has none.
        """
        import torch

        passes = int(args.passes)
        if objective.reference == "loss":
            with torch.no_grad():
                references = self.row_losses(forget)[0]

        for step in range(steps):
            chosen = [pairs(i) for i in range(step * step_rows, (step + 1) * step_rows)]
            alpha = ALPHA * (1 - step * step_rows // len(forget) / passes)
            sums, counts = self.row_losses([forget[f] for f, _ in chosen])
            loss_f = sums.sum() / counts.sum()
            loss_r = self.mean([retain[r] for _, r in chosen])
            kept = 1 - alpha
            if objective.name == "npo":
                ratios = references[[f for f, _ in chosen]] - sums  # log p - log q
                value, kept = (2 / NPO_BETA * torch.log1p((NPO_BETA * ratios).exp())).mean(), 1.0
            elif targets:
                wanted = torch.tensor([targets[f] for f, _ in chosen], device=self.device, dtype=sums.dtype)
                means = sums / counts
                if args.gap == "ranked":
                    wanted, means = (-torch.log(torch.expm1(x)) for x in (wanted, means))
                value = alpha * ((wanted - means) ** 2).mean()
            else:
                value = alpha * torch.relu(tau - loss_f) ** 2
            value = value + kept * loss_r
            named = {"loss": value, "forget_loss": loss_f, "retain_loss": loss_r}
            self.losses.append({name: float(v.detach()) for name, v in named.items()})
            self.descend(torch.autograd.grad(value, self.params), args.learning_rate)


def inner(a, b):
    return sum((x * y).sum() for x, y in zip(a, b, strict=True))


def length(a):
    return inner(a, a).sqrt()


def plus(a, b, factor):
    """a + factor·b"""
    return [x + factor * y for x, y in zip(a, b, strict=True)]


# ---- the cases ------------------------------------------------------------------------------------------------------


def training_arguments(flags, out: str, accumulation: int, step_rows: int, world: int) -> dict:
    return {
        "output_dir": out, "report_to": [], "log_level": "error", "save_strategy": "no", "logging_steps": 1,
        "disable_tqdm": True, "dataloader_pin_memory": False, "lr_scheduler_type": "constant", "optim": "sgd",
        "max_grad_norm": 0.0, "use_cpu": flags.use_cpu, "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": step_rows // world // accumulation, "weight_decay": 0.0,
    }  # fmt: skip


def run_ready(flags, out, name, accumulation, step_rows, world):
    """`(trainer, function that runs the plain loop)`; the trainer is not trained yet."""
    from hf_unlearn import ReadyConfig, ReadyTrainer

    rows = make_rows(step_rows * flags.steps // 2, 0)  # two epochs
    options = READY[name]
    resist = "resistance" in options
    args = ReadyConfig(
        **training_arguments(flags, out, accumulation, step_rows, world),
        max_steps=flags.steps, learning_rate=READY_LR, meta_start=0.0, inner_lr=INNER_LR, gain_cap=CAP, request_rows=0,
        train_sampling_strategy="sequential", readiness="meta", lambda_efficiency=LAMBDA_EFFICIENCY,
        lambda_retention=LAMBDA_RETENTION, lambda_resistance=LAMBDA_RESISTANCE if resist else 0.0, **options,
    )  # fmt: skip
    trainer = ReadyTrainer(build(flags), args, rows, data_collator=collate)

    def reference(plain):
        second = options["meta_gradient"] == "finite_difference"
        plain.ready(rows, flags.steps, step_rows, second, resist)

    return trainer, reference


def run_unlearn(flags, out, name, accumulation, step_rows, world):
    from hf_unlearn import UnlearnConfig, UnlearnTrainer
    from hf_unlearn.objectives.registry import OBJECTIVES

    forget, retain = make_rows(2 * step_rows, 1000), make_rows(5 * step_rows, 2000)
    unseen = make_rows(12, 3000)
    args = UnlearnConfig(
        **training_arguments(flags, out, accumulation, step_rows, world),
        passes=str(flags.steps // 2), target="frozen", stop=False,
        **{"learning_rate": UNLEARN_LR, **UNLEARN[name]},
        **({"alpha": ALPHA} if OBJECTIVES[UNLEARN[name].get("objective", "nabla_tau")].uses_alpha else {}),
    )  # fmt: skip
    trainer = UnlearnTrainer(build(flags), args, forget, retain, unseen, data_collator=collate)

    def reference(plain):
        import torch

        with torch.no_grad():
            (sums, counts), own = (plain.row_losses(rows) for rows in (unseen, forget))
        targets = trainer.targets  # look at them
        if args.gap == "matched" and max(min(abs(t - u) for u in (sums / counts).tolist()) for t in targets) > 1e-3:
            raise ValueError("The targets of `gap='matched'` are not losses of unseen rows.")
        if args.gap == "ranked" and not by_rank(targets, *((s / n).tolist() for s, n in (own, (sums, counts)))):
            raise ValueError("The targets of `gap='ranked'` are not the quantiles of unseen rows, in the rows' order.")
        pairs = trainer.train_dataset.indices
        tau = float(sums.sum() / counts.sum())
        plain.unlearn(args, trainer.objective, pairs, forget, retain, tau, targets, flags.steps, step_rows)

    return trainer, reference


def by_rank(targets, own, unseen) -> bool:
    import numpy as np

    n, order = len(targets), np.argsort(targets)
    quantiles = np.quantile(unseen, (np.arange(n) + 0.5) / n, method="hazen")
    return bool(np.allclose(np.sort(targets), quantiles, atol=1e-3) and np.diff(np.array(own)[order]).min() > -1e-3)


def difference(trainer, plain) -> tuple[float, float, float]:
    """
    Largest relative differences `(of the way that a weight tensor went, of the losses)`, and how far the weights went
    as a share of their norm. On the main process; the other processes get zeros.
    """
    import torch

    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return 0.0, 0.0, 1.0
    ways = {}
    for name, p in zip(plain.names, plain.params, strict=True):
        end, begin = p.detach().double().cpu(), plain.start[name].double().cpu()
        ways[name] = (state[name].double().cpu() - end, end - begin, begin)
    longest = max(float(way.norm()) for _, way, _ in ways.values())
    weights = max(float(gap.norm()) / max(float(way.norm()), 0.05 * longest) for gap, way, _ in ways.values())
    logged = [line for line in trainer.state.log_history if "loss" in line]
    if len(logged) != len(plain.losses):
        return float("inf"), float("inf"), 0.0
    losses = max(
        abs(line[name] - value) / max(abs(value), 0.1)
        for line, values in zip(logged, plain.losses, strict=True)
        for name, value in values.items()
    )
    went = torch.tensor([float(way.norm()) for _, way, _ in ways.values()]).norm()
    return weights, losses, float(went / torch.tensor([float(b.norm()) for _, _, b in ways.values()]).norm())


def main(argv: list[str]) -> int:
    """Compares all runs with plain loops; the exit status."""
    flags = parse(argv)
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # sums are compared here, not roundings
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    found: dict[str, str] = {}  # label of a run -> PASS, FAIL or refused
    cases = [("ready", run_ready, name) for name in READY] + [("unlearn", run_unlearn, name) for name in UNLEARN]
    with tempfile.TemporaryDirectory() as out:
        for verb, make, name in cases:
            for accumulation in (1, 2):
                label = f"{verb:8}{name:28}{accumulation} micro-batch{'es' if accumulation > 1 else ''}".ljust(52)
                trainer, reference = made(make, flags, out, name, accumulation, label)
                if trainer is None:
                    found[label] = "refused" if may_refuse() else "FAIL"
                    continue
                if not {"PASS", "FAIL"} & set(found.values()):
                    print_heading(trainer, flags, asked)
                found[label] = compared(trainer, reference, flags, label)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return conclude(found)


def made(make, flags, out: str, name: str, accumulation: int, label: str):
    """A case's trainer and what runs its plain loop; `(None, None)` where this engine refuses it, which is printed."""
    from hf_unlearn import ArgumentError

    world = int(os.environ.get("WORLD_SIZE", "1"))
    step_rows = world * max(2, 8 // world // 2 * 2)
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":  # its config is to say so too
        os.environ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = str(accumulation)
    try:
        with _quiet():
            return make(flags, out, name, accumulation, step_rows, world)
    except ArgumentError as error:
        if world_zero():
            print(f"{label}refused: {' '.join(' '.join(error.problems).split())}", flush=True)
        return None, None


def compared(trainer, reference, flags, label: str) -> str:
    """Runs a case by its trainer and by the plain loop, and prints how far they are apart: PASS or FAIL."""
    import torch

    with _quiet():
        trainer.train()
    plain = Plain(flags, trainer.args.device)
    reference(plain)
    weights, losses, went = difference(trainer, plain)
    tolerance = tolerance_of(flags)
    good = weights <= tolerance and losses <= tolerance and went > 1e-4
    engine = trainer.accelerator
    good = bool(engine.gather(torch.tensor([good], device=engine.device)).all())
    verdict = "PASS" if good else "FAIL"
    if trainer.is_world_process_zero():
        print(f"{label}weights {weights:.1e}  losses {losses:.1e}  {verdict}", flush=True)
    engine.free_memory()
    return verdict


def tolerance_of(flags) -> float:
    return TOLERANCES[flags.dtype] if flags.tolerance is None else flags.tolerance


def print_heading(trainer, flags, mixed_precision: str) -> None:
    engine = trainer.accelerator
    if not trainer.is_world_process_zero():
        return
    kind = f"{engine.distributed_type.value}, {engine.num_processes} process(es), {engine.device.type}"
    trained = "LoRA" if flags.peft else "all weights"
    print(f"{kind}; {flags.dtype}; {trained}; tolerance {tolerance_of(flags):g}")
    if mixed_precision != "no":
        print(f"The engine's mixed precision ({mixed_precision}) is off here.")


def conclude(found: dict[str, str]) -> int:
    """Prints the last line; the exit status."""
    failed = [label for label, verdict in found.items() if verdict == "FAIL"]
    refused = sum(verdict == "refused" for verdict in found.values())
    nothing = not {"PASS", "FAIL"} & set(found.values())
    if world_zero():
        if failed:
            print("FAIL: " + "; ".join(" ".join(label.split()) for label in failed))
        elif nothing:
            print("FAIL: nothing was compared")
        else:
            print(f"PASS: {len(found) - refused} runs agree" + (f", {refused} refused" if refused else ""))
    return 1 if failed or nothing else 0


def world_zero() -> bool:
    return os.environ.get("RANK", "0") == "0"


def may_refuse() -> bool:
    """Whether a refusal is expected on this engine: not on one process, nor where the model is merely copied."""
    from accelerate.state import AcceleratorState, is_initialized
    from accelerate.utils import DistributedType

    kinds = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)
    return is_initialized() and AcceleratorState().distributed_type in kinds


def _quiet():
    """The trainers print each log line; here only the verdicts are of interest."""
    return contextlib.redirect_stdout(open(os.devnull, "w"))


if __name__ == "__main__":
    running.run(main)
