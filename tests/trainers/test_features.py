"""
What users switch on beside readiness and ∇τ: adapters, frozen layers, checkpointing, bf16, kernels, dropout,
BatchNorm, compilation. The gradient stays that of the same step without it, and what is not trained stays put.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from helpers.tiny import (
    QUIET,
    Gradients,
    batch_of,
    fit,
    image_rows,
    lm,
    lm64,
    lm_rows,
    relative,
    resnet,
    same_bits,
    tokenizer,
    vit,
    weights,
)
from peft import LoraConfig, get_peft_model
from torch.func import functional_call
from transformers import TrainerCallback

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer
from hf_unlearn.data.order import PairedDataset, spread_order
from hf_unlearn.objectives.row_nll import per_row_nll
from hf_unlearn.readiness.exact import exact_readiness_gradient
from hf_unlearn.readiness.moving_weights import norm

STEP = {"optim": "sgd", "learning_rate": 0.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}  # nothing moves
READY_OPTIONS = {"inner_lr": 0.1, "lambda_efficiency": 0.5, "lambda_retention": 1.0}
READY_OPTIONS |= {"resistance": "relearn", "lambda_resistance": 0.6, "gain_cap": 20.0}
RAGGED = {"short": 3, "long": 29}


@pytest.fixture(autouse=True)
def no_compilation_afterwards(monkeypatch):
    """`torch_compile` writes to the environment, where later trainers would find it."""
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")  # so that the end takes it away again


# ---- the models ----


def frozen(model, *names: str):
    for name, p in model.named_parameters():
        p.requires_grad_(not any(part in name for part in names))
    return model


def adapter(**options) -> LoraConfig:
    return LoraConfig(r=2, target_modules=["c_attn", "c_fc", "q_proj", "v_proj"], init_lora_weights=False, **options)


@dataclasses.dataclass(frozen=True)
class Plain:
    """A model, and what may lie between its gradients: with a feature and without, finite difference and exact."""

    make: Callable = lm64
    rows: Callable = functools.partial(lm_rows, **RAGGED)
    peft: Callable = lambda: None
    first: float = 1e-12
    exact: float = 1e-4
    epsilon: float | None = 1e-7
    inner_lr: float = 0.1
    n: int = 8  # rows a step
    accumulation: int = 2


F32 = {"first": 1e-5, "exact": 5e-3, "epsilon": None}
BFLOAT = {"first": 3e-2, "exact": 3e-2, "epsilon": None, "inner_lr": 0.01}
IMAGES = {"rows": image_rows, **F32}
DROPOUT = functools.partial(lm64, dropout=0.3)
EVEN = functools.partial(lm_rows, short=12, long=13)  # a graph for each number of rows, and none for symbols
PLAIN = {
    "tied": Plain(),
    "untied": Plain(functools.partial(lm64, tied=False)),
    "dropout": Plain(DROPOUT),
    "frozen": Plain(lambda **c: frozen(lm64(layers=2, **c), "wte", "h.0")),
    "lora": Plain(peft=adapter),
    "lora, dropout": Plain(DROPOUT, peft=functools.partial(adapter, lora_dropout=0.2)),
    "llama": Plain(lm, **F32),
    "llama, short step": Plain(lm, **BFLOAT),
    "llama, short step, lora": Plain(lm, peft=adapter, **{**BFLOAT, "exact": 6e-2}),
    "images, frozen": Plain(lambda: frozen(vit(), "embeddings"), **IMAGES),
    "images, lora": Plain(vit, peft=adapter, **IMAGES),
    "batch norm": Plain(resnet, n=32, accumulation=1, **IMAGES),
    "even": Plain(rows=EVEN),
}
REENTRANT, OTHER = (
    {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": kind}} for kind in (True, False)
)
SDPA = {"attention": "sdpa"}  # of the model, not of the trainer
BF16 = {"bf16": True}


def made(plain: Plain, attention: str | None = None):
    if attention is None:
        return plain.make()
    return plain.make(**{"attn_implementation" if plain.make is lm else "attention": attention})


def cut(plain: Plain, accumulation: int) -> dict:
    each = plain.n // accumulation
    return {"per_device_train_batch_size": each, "gradient_accumulation_steps": accumulation}


def collation(plain: Plain) -> dict:
    return {} if plain.rows is image_rows else {"processing_class": tokenizer()}


def at_rest(model, before, gradients) -> list[torch.Tensor]:
    """The gradients of a step, one for each trainable parameter; after it weights and buffers are what they were."""
    moving = ("running", "num_batches")
    after = {k: v for k, v in weights(model).items() if not any(part in k for part in moving)}
    names = {k: k.removeprefix("base_model.model.").replace(".base_layer", "") for k in after if "lora_" not in k}
    assert same_bits({name: after[k] for k, name in names.items()}, {name: before[name] for name in names.values()})
    assert [g is not None for g in gradients] == [p.requires_grad for p in model.parameters()]
    return [g for g in gradients if g is not None]


# ---- readiness ----


def ready(out, name, mode, accumulation=1, attention=None, trainer=ReadyTrainer, **options):
    plain, keep = PLAIN[name], Gradients()
    model = made(plain, attention)
    before = weights(model)
    args = {**QUIET, **STEP, **READY_OPTIONS, "inner_lr": plain.inner_lr, **cut(plain, accumulation), **options}
    args = ReadyConfig(
        str(out), readiness="meta", max_steps=1, meta_start=0.0, request_rows=0, meta_gradient=mode, **args
    )
    rows = plain.rows(plain.n, every=2)
    run = trainer(model, args, rows, peft_config=plain.peft(), callbacks=[keep], **collation(plain))
    if plain.epsilon and mode == "finite_difference":
        run.terms = dataclasses.replace(run.terms, fd_epsilon=plain.epsilon)
    adapters = [p.detach().clone() for p in run.trainable]
    run.train()
    assert all(torch.equal(p, a) for p, a in zip(run.trainable, adapters, strict=True))
    return at_rest(run.model, before, keep.steps[-1]), run


@functools.cache
def ready_without(name, mode, accumulation, folder):
    return ready(folder, name, mode, accumulation)[0]


FEATURES = {
    "frozen": ("frozen", {}),
    "lora": ("lora", {}),
    "dropout": ("dropout", {}),
    "batch norm": ("batch norm", {}),
    "reentrant": ("tied", REENTRANT),
    "checkpoints": ("tied", OTHER),
    "sdpa": ("tied", SDPA),
    "sdpa, reentrant": ("untied", {**SDPA, **REENTRANT}),
    "sdpa, checkpoints": ("llama", {**SDPA, **OTHER}),
    "frozen, reentrant": ("frozen", REENTRANT),
    "frozen, checkpoints": ("frozen", OTHER),
    "lora, reentrant": ("lora", REENTRANT),
    "lora, checkpoints": ("lora", OTHER),
    "dropout, reentrant": ("dropout", REENTRANT),
    "dropout, checkpoints": ("dropout", OTHER),
    "lora, dropout, reentrant": ("lora, dropout", REENTRANT),
    "lora, dropout, checkpoints": ("lora, dropout", OTHER),
    "images, frozen, reentrant": ("images, frozen", REENTRANT),
    "images, lora, reentrant": ("images, lora", REENTRANT),
    "images, lora, checkpoints": ("images, lora", OTHER),
    "bf16": ("llama, short step", BF16),
    "bf16, sdpa, checkpoints": ("llama, short step", {**BF16, **SDPA, **OTHER}),
    "bf16, lora, reentrant": ("llama, short step, lora", {**BF16, **REENTRANT}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("without")


SLOW = {"sdpa, reentrant", "sdpa, checkpoints", "frozen", "frozen, checkpoints", "lora, dropout, checkpoints"}
SLOW |= {"images, lora, checkpoints", "bf16, sdpa, checkpoints", "checkpoints", "dropout, checkpoints"}
SLOW |= {"frozen, reentrant", "dropout, reentrant", "lora, dropout, reentrant", "images, frozen, reentrant"}


@pytest.mark.parametrize("feature", [pytest.param(f, marks=pytest.mark.slow if f in SLOW else []) for f in FEATURES])
def test_the_readiness_gradient_is_the_same_without_the_feature(tmp_path, folder, feature):
    """First order as without it, the finite difference as double backward without it, dropout masks included."""
    name, options = FEATURES[feature]
    plain = PLAIN[name]
    if options:
        got, _ = ready(tmp_path, name, "first_order", **options)
        assert relative(got, ready_without(name, "first_order", 1, folder)) < plain.first
    got, _ = ready(tmp_path, name, "finite_difference", plain.accumulation, **options)
    error = relative(got, ready_without(name, "exact", plain.accumulation, folder))
    assert error < plain.exact


def by_hand(run, name):
    """(first order, exact): the step's gradient with respect to the trainable weights, written down a second time."""
    plain, terms = PLAIN[name], run.terms
    model, rows = run.model, plain.rows(8, every=2)
    model.train()
    order = spread_order(torch.tensor(rows["revocable"]).numpy(), 8, 42, 0).tolist()
    named = [i for i in order if rows[i]["revocable"]]
    parts = {"revocable": named[::2], "proxy": named[1::2], "stable": [i for i in order if i not in named]}
    parts = {kind: batch_of(model, [rows[i] for i in chosen]) for kind, chosen in parts.items()}
    names = [k for k, p in model.named_parameters() if p.requires_grad]
    theta = [p.detach() for p in model.parameters() if p.requires_grad]

    def losses(at, kind):
        return functional_call(model, dict(zip(names, at, strict=True)), kwargs=parts[kind]).loss

    def grad(at, kind):
        at = [t.detach().requires_grad_() for t in at]
        return torch.autograd.grad(losses(at, kind), at)

    def stepped(at, g, sign):
        return [t + sign * terms.inner_lr * float(norm(theta) / norm(g)) * x for t, x in zip(at, g, strict=True)]

    here = grad(theta, "revocable")
    there = stepped(theta, here, 1)
    recovered = stepped(there, grad(there, "proxy"), -1)
    first = [
        terms.lambda_efficiency * (h - f) + terms.lambda_retention * r - terms.lambda_resistance * q
        for h, f, r, q in zip(here, grad(there, "revocable"), grad(there, "stable"), grad(recovered, "revocable"),
                              strict=True)
    ]  # fmt: skip
    exact, _ = exact_readiness_gradient(theta, losses, terms)
    main = model(**batch_of(model, list(rows))).loss
    main = torch.autograd.grad(main, [p for p in model.parameters() if p.requires_grad])
    return [[m + x for m, x in zip(main, part, strict=True)] for part in (first, exact)]


@pytest.mark.parametrize("name", ["tied", "untied", "frozen", "lora"])
def test_the_readiness_gradient_matches_a_hand_calculation_on_the_trainable_weights(tmp_path, folder, name):
    found, run = ready(tmp_path, name, "exact")
    first, exact = by_hand(run, name)
    assert relative(found, exact) < 2e-7  # labels' shares are float32
    assert relative(ready_without(name, "first_order", 1, folder), first) < 2e-7
    assert relative(first, exact) > 1e-2


@pytest.mark.parametrize("enclosing", [False, True])
@pytest.mark.parametrize("forward, forwards", [("in_turn", 6), ("together", 7)])
def test_passes_in_bf16_use_the_moved_weights_and_no_cached_cast(tmp_path, monkeypatch, enclosing, forward, forwards):
    """Autocast keeps bf16 copies of the weights; where the user has one autocast around all passes they are stale."""

    class Enclosed(ReadyTrainer):
        def training_step(self, *args):
            with torch.autocast("cpu", torch.bfloat16) if enclosing else nullcontext():
                return super().training_step(*args)

    def watched():
        model = lm()
        model.lm_head.register_forward_hook(lambda *args: dtypes.append(args[-1].dtype))
        return model

    dtypes = []
    monkeypatch.setitem(PLAIN, "watched", dataclasses.replace(PLAIN["llama"], make=watched))
    want, fp32 = ready(tmp_path, "llama", "first_order")
    got, bf16 = ready(tmp_path, "watched", "first_order", trainer=Enclosed, meta_forward=forward, **BF16)
    assert dtypes == [torch.bfloat16] * forwards
    # the request at θ, θ' and θ'', kept rows, proxies, the rest; or two to see the loss, and θ' and kept in one
    for name in ("ready_gain", "ready_relearned", "ready_retention"):
        assert bf16.state.log_history[0][name] == pytest.approx(fp32.state.log_history[0][name], rel=1e-2)
    assert relative(got, want) < 2e-2


@pytest.mark.parametrize("how", ["config", "model"])
def test_double_backward_with_checkpoints_is_refused(tmp_path, how):
    """Checkpoints run the forward again when the swapped weights are gone: a gradient of other weights, no error."""
    with pytest.raises(ArgumentError, match="silently wrong with gradient checkpointing"):
        if how == "config":
            ReadyConfig(str(tmp_path), readiness="meta", meta_gradient="exact", **OTHER)
        model = lm()
        model.gradient_checkpointing_enable()
        ReadyTrainer(model, ReadyConfig(str(tmp_path), readiness="meta", meta_gradient="exact", **QUIET), lm_rows(8))


# ---- unlearning ----

CASES = {  # gap, forward, micro-batches
    "together": ("hinge", "together", 1),
    "in turn": ("hinge", "in_turn", 4),
    "by rows": ("matched", "in_turn", 4),
}
ALPHA, PASSES, LIFTS = 0.3, 6, (0.0, -100.0, -100.0, 0.0)  # of τ: the gate is open, found shut, looked at, open again


class Target(TrainerCallback):
    """Moves τ before each step and keeps it."""

    def __init__(self):
        self.steps = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.steps.append(self.run.request_state.tau_initial + LIFTS[state.global_step])
        self.run.request_state = dataclasses.replace(self.run.request_state, tau=self.steps[-1])


@functools.cache
def known(name):
    """A model that knows its rows a little, so that there is a way up to the loss of unseen rows."""
    plain = PLAIN[name]
    return weights(fit(plain.make(), plain.rows(16), steps=12))


def unlearn(out, name, case, attention=None, **options):
    """(the gradients of each step, τ of each step, the trainer)."""
    plain, keep, target = PLAIN[name], Gradients(), Target()
    gap, forward, accumulation = CASES[case]
    model = made(plain, attention)
    model.load_state_dict(known(name))
    args = {**QUIET, **STEP, "alpha": ALPHA, "passes": str(PASSES), "stop": False, "target": "frozen", "gap": gap}
    args |= {"max_steps": len(LIFTS) if gap == "hinge" else 1, "forget_forward": forward, **cut(plain, accumulation)}
    target.run = run = UnlearnTrainer(
        model,
        UnlearnConfig(str(out), **{**args, **options}),
        plain.rows(8),
        plain.rows(8, 8),
        plain.rows(8, 100),
        peft_config=plain.peft(),
        callbacks=[target, keep],
        **collation(plain),
    )
    run.train()
    return [at_rest(run.model, known(name), step) for step in keep.steps], target.steps, run


def objectives_by_hand(run, name, taus):
    """The gradients of each step's objective on the whole batch, without a trainer."""
    model = PLAIN[name].make()
    if adapters := PLAIN[name].peft():
        model = get_peft_model(model, adapters)
    model.load_state_dict(weights(run.model))
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    pairs = PairedDataset(run.forget_dataset, run.retain_dataset, PASSES, 42)
    for step, tau in enumerate(taus):
        forget, retain, places = zip(*(pairs[i] for i in range(8 * step, 8 * step + 8)), strict=True)
        sides = []
        for rows in (forget, retain):
            batch = batch_of(model, rows)
            labels = batch.pop("labels")
            sides.append(per_row_nll(model(**batch).logits, labels))
        (fs, fn), (rs, rn) = sides
        alpha = ALPHA * (1 - step / PASSES)
        value = (1 - alpha) * rs.sum() / rn.sum()
        if run.args.gap == "hinge":
            value = value + alpha * torch.relu(tau - fs.sum() / fn.sum()) ** 2
        else:
            targets = torch.tensor([run.targets[place] for place in places], dtype=fs.dtype)
            value = value + alpha * ((targets - fs / fn) ** 2).mean()
        yield torch.autograd.grad(value, trainable)


UNLEARN = {  # feature: the cases in the default run
    "reentrant": ["in turn"],
    "checkpoints": ["together", "by rows"],
    "sdpa": ["together"],
    "sdpa, checkpoints": [],
    "frozen, reentrant": ["in turn"],
    "lora": ["in turn"],
    "lora, reentrant": ["together", "by rows"],
    "lora, checkpoints": ["in turn"],
    "images, frozen, reentrant": ["in turn"],
    "bf16": ["together", "in turn"],
    "bf16, lora, reentrant": ["by rows"],
}


@pytest.mark.parametrize("feature, case", [
    pytest.param(f, c, marks=[] if c in fast else pytest.mark.slow) for f, fast in UNLEARN.items() for c in CASES
])  # fmt: skip
def test_a_step_of_unlearning_is_the_objective_by_hand(tmp_path, feature, case):
    name, options = FEATURES[feature]
    steps, taus, run = unlearn(tmp_path, name, case, **options)
    for got, want in zip(steps, objectives_by_hand(run, name, taus), strict=True):
        assert relative(got, want) < PLAIN[name].first
    if case != "by rows":
        assert len(steps) == 4 and relative(steps[0], steps[1]) > 0.1  # the gate matters


# ---- torch.compile: minutes ----

BACKENDS = ["aot_eager", "inductor"]
SAME = {"even": 1e-9, "lora": 1e-9, "batch norm": 1e-4}  # compiled and not
FEW_GRAPHS = {"resistance": "none", "lambda_resistance": 0.0}  # as many rows in each pass; each kernel takes seconds


def compiled(backend: str) -> dict:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return {"torch_compile": True, "torch_compile_backend": backend}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["even", "batch norm"])
def test_the_compiled_readiness_gradient_is_the_uncompiled_one(tmp_path, name):
    """By the same kernels; inductor's are compared where dropout and a request are compiled, below."""
    got, run = ready(tmp_path, name, "first_order", **FEW_GRAPHS, **compiled("aot_eager"))
    assert type(run.model_wrapped).__name__ == "OptimizedModule"
    assert relative(got, ready(tmp_path, name, "first_order", **FEW_GRAPHS)[0]) < SAME[name]
    if name == "even":  # with labels, and for request and kept rows; the look at whether the loss is usual has none
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["even", "batch norm"])
def test_the_compiled_finite_difference_is_double_backward_without(tmp_path, folder, name):
    plain = PLAIN[name]
    got, _ = ready(tmp_path, name, "finite_difference", plain.accumulation, **compiled("aot_eager"))
    assert relative(got, ready_without(name, "exact", plain.accumulation, folder)) < plain.exact


@pytest.mark.slow
@pytest.mark.parametrize("backend, name", [("aot_eager", "even"), ("aot_eager", "lora"), ("inductor", "even")])
def test_a_compiled_step_of_unlearning_is_the_objective_by_hand(tmp_path, backend, name):
    for case in CASES if (backend, name) == ("aot_eager", "even") else ["together"]:
        steps, taus, run = unlearn(tmp_path, name, case, **compiled(backend))
        for got, want in zip(steps, objectives_by_hand(run, name, taus), strict=True):
            assert relative(got, want) < SAME[name]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_dropout_has_the_same_masks_in_both_passes(tmp_path, monkeypatch, backend):
    """Compiled masks are others than eager ones; were they to differ between the passes, so would the two ε."""
    found = []
    for epsilon in (1e-6, 1e-7):
        monkeypatch.setitem(PLAIN, "dropout", dataclasses.replace(PLAIN["dropout"], rows=EVEN, epsilon=epsilon))
        found.append(ready(tmp_path, "dropout", "finite_difference", **FEW_GRAPHS, **compiled(backend))[0])
    assert relative(found[1], found[0]) < 1e-4
