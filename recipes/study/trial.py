"""One cell of the study: a model trained by one arm, then asked to forget in many ways, measured step by step."""

from __future__ import annotations

import contextlib
import copy
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from hf_unlearn.cli import arguments, prepare
from hf_unlearn.cli.model import adapter
from hf_unlearn.evaluation.catalogue import FINE_TUNES
from recipes.tools.jobs import QUIET

SAMPLE = 300  # retain rows that are looked at on the way
KEPT_MARK = 0.97  # share of the plain model's retain accuracy that "kept" means
TOLERANCE = 0.05  # of τ: a forget loss within it counts as the unseen one, as in the trainers' stop rule
JUDGED_GAPS = ("hinge", "squared", "matched", "ranked")  # the study's choice: all of the registry but "rows"
WATCHED = ("forget_quality", "_auc_gap", "forget_loss", "retain_accuracy", "test_accuracy", "extraction_strength")
FINE_TUNED_ON = tuple(FINE_TUNES)
RELEARNING = {"steps": 30, "every": 5, "batch_size": 16}


@dataclass(frozen=True)
class Request:
    """How a model is asked to forget."""

    learning_rate: float
    objective: str = "nabla_tau"
    options: Mapping = field(default_factory=dict)  # more of `UnlearnConfig`
    adapter: bool = False  # train a LoRA adapter of rank 16 on all linear layers

    @property
    def method(self) -> str:
        return f"{self.objective}, LoRA" if self.adapter else self.objective


@dataclass(frozen=True)
class RequestRows:
    """The splits of a request with what reading them takes."""

    splits: Mapping
    collator: object
    goal: str  # "unseen": the forget loss reaches the unseen loss; "chance": the forget accuracy reaches guessing
    classes: int
    task: str = "causal_lm"  # of `DataArguments`: what kind of model an adapter is for
    options: Mapping = field(default_factory=dict)  # of `UnlearnConfig`, of every request that sets no other

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(part) for name, part in self.splits.items()}

    def batches(self, name: str, most: int | None = None, size: int = 64) -> list[dict]:
        from hf_unlearn.evaluation import evenly

        rows = self.splits[name] if most is None else evenly(self.splits[name], most)
        return list(DataLoader(rows, batch_size=size, collate_fn=self.collator))


@torch.no_grad()
def look(model, batches: Sequence[Mapping]) -> dict:
    """Loss in nats per label, shares of rows with every label right and of labels, and the rows' mean losses (n,)."""
    from hf_unlearn.evaluation import evaluating
    from hf_unlearn.objectives.row_nll import IGNORE_INDEX, per_row_nll

    sums, counts, right, labels_right = [], [], [], 0
    with evaluating(model):
        for batch in batches:
            logits = model(**{k: v for k, v in batch.items() if k not in ("labels", "is_forget")}).logits
            labels = batch["labels"]
            nll, n = per_row_nll(logits, labels)
            if labels.dim() == 2:
                labels, logits = labels[:, 1:], logits[:, :-1]
            told = logits.argmax(-1) == labels
            labels_right += int(told.sum())
            right.append((told | (labels == IGNORE_INDEX)).all(1) if labels.dim() == 2 else told)
            sums.append(nll.double())
            counts.append(n)
    sums, counts = torch.cat(sums), torch.cat(counts)
    return {
        "loss": float(sums.sum() / counts.sum()),
        "accuracy": float(torch.cat(right).double().mean()),
        "token_accuracy": labels_right / float(counts.sum()),
        "rows": (sums / counts).tolist(),
    }


class Watch(TrainerCallback):
    """
    Looks at the model after each of a request's first ten steps, then when a tenth more have been done; ends it where
    the rows are forgotten and all is kept.
    """

    def __init__(self, rows: RequestRows, kept: float):
        self.rows, self.kept, self.next = rows, kept, 1
        self.forget, self.retain = rows.batches("forget"), rows.batches("retain", SAMPLE)
        self.offset: float | None = None  # row passes of the looks before the first step
        self.looks: list[list[float]] = []  # step, row passes since, forget loss and accuracy, retain accuracy, τ
        self.forgotten: int | None = None  # place of the first look that found the rows forgotten
        self.done: int | None = None  # and of the first that also found the others kept

    def on_step_begin(self, args, state, control, **kwargs):
        if self.offset is None:
            self.offset = self.trainer.row_passes

    def on_step_end(self, args, state, control, **kwargs):
        trainer = self.trainer
        if state.global_step < self.next:
            return
        self.next = max(self.next + 1, math.ceil(1.1 * self.next))
        forget, retain = look(trainer.model, self.forget), look(trainer.model, self.retain)
        tau = trainer.request_state.tau
        if self.rows.goal == "chance":
            there = forget["accuracy"] <= 1 / self.rows.classes
        else:
            there = forget["loss"] >= (1 - TOLERANCE) * tau
        passes = trainer.row_passes - self.offset
        line = [state.global_step, passes, forget["loss"], forget["accuracy"], retain["accuracy"], tau]
        self.looks.append([round(x, 4) for x in line])
        if there and self.forgotten is None:
            self.forgotten = len(self.looks) - 1
        if there and retain["accuracy"] >= self.kept:
            self.done = len(self.looks) - 1
            control.should_training_stop = True


def ask(model, rows: RequestRows, request: Request, kept: float, seed: int):
    """
    One request on a copy of the model.

    Args:
        kept: retain accuracy (share of rows) that counts as kept.

    Returns:
        `(the model afterwards, {"method", "learning_rate", "looks", "forgotten", "done"})`.
    """
    watch = Watch(rows, kept)
    trainer = unlearner(model, rows, request, seed, watch)
    found = {"method": request.method, "learning_rate": request.learning_rate, "looks": watch.looks}
    return trainer.model, found | {"forgotten": watch.forgotten, "done": watch.done}


def unlearner(model, rows: RequestRows, request: Request, seed: int, watch: Watch | None = None):
    """The trainer of a request on a copy of the model, when it has run; without the stop rule, unless that is asked."""
    from hf_unlearn import UnlearnConfig, UnlearnTrainer

    lora = arguments.ModelArguments(lora_r=16 if request.adapter else 0)
    with tempfile.TemporaryDirectory() as folder:
        options = {"stop": False, **rows.options, **request.options}
        if request.objective == "nabla_tau" and rows.goal != "chance" and options.get("resistance", "none") == "none":
            options.setdefault("gap", "hinge")  # the paper's
        args = UnlearnConfig(
            folder,
            objective=request.objective,
            learning_rate=request.learning_rate,
            target="chance" if rows.goal == "chance" else "current",
            readiness_from="none",
            seed=seed,
            **{**QUIET, **options},
        )
        trainer = UnlearnTrainer(
            copy.deepcopy(model),
            args,
            *(rows.splits[name] for name in ("forget", "retain", "unseen")),
            data_collator=rows.collator,
            peft_config=adapter(arguments.DataArguments(task=rows.task), lora),
            callbacks=[watch] if watch else None,
        )
        if watch:
            watch.trainer = trainer
        with contextlib.redirect_stdout(None):
            trainer.train()
    return trainer


def passes_to(found: Mapping, event: str = "done") -> float | None:
    """Row passes of a request until an event, None where it did not come."""
    return None if found[event] is None else found["looks"][found[event]][1]


def place_of(found: Mapping) -> tuple[bool, float]:
    """Least for the best request: those that finished by row passes, then the others by those at their last look."""
    return found["done"] is None, found["looks"][-1][1] if found["looks"] else math.inf


def before(model, rows: RequestRows) -> dict:
    """Loss and accuracy of each split; of forget and unseen rows their single losses too."""
    found = {}
    for name in rows.splits:
        seen = look(model, rows.batches(name))
        if name not in ("forget", "unseen"):
            del seen["rows"]
        found[name] = {k: round(v, 5) if k != "rows" else [round(x, 5) for x in v] for k, v in seen.items()}
    return found


def recovery(
    model, rows: RequestRows, learning_rate: float, seed: int, kinds: Sequence[str] = FINE_TUNED_ON
) -> dict[str, list[float]]:
    """Kind of fine-tune -> loss of the forget rows that it does not train on, before it and every few steps."""
    from hf_unlearn.evaluation import recovery_curves

    how = {"kinds": kinds, "learning_rate": learning_rate, "seed": seed, **RELEARNING}
    curves = recovery_curves({"model": model}, rows.splits, rows.collator, **how)["model"]
    return {kind: [round(point["loss"], 4) for point in curve] for kind, curve in curves.items()}


def membership(losses: Mapping[str, Sequence[float]]) -> float:
    """AUC of telling forget rows from unseen ones by their loss: .5, it cannot; 1, they are known."""
    from sklearn.metrics import roc_auc_score

    forget, unseen = losses["forget"], losses["unseen"]
    return float(roc_auc_score([1] * len(forget) + [0] * len(unseen), -np.array([*forget, *unseen])))


def resisted(model, rows: RequestRows, learning_rate: float, attack: float, seed: int) -> dict:
    """A request with its simulated recovery and its own stop rule: its cost, its end, and what attackers bring back."""
    trainer = unlearner(model, rows, Request(learning_rate, options={"resistance": "relearn", "stop": True}), seed)
    return {
        "learning_rate": learning_rate,
        "steps": trainer.state.global_step,
        "row_passes": round(trainer.row_passes, 2),
        "stop_reason": trainer.stop_reason,
        "splits": before(trainer.model, rows),
        "recovery": recovery(trainer.model, rows, attack, seed),
    }


def verdicts(
    model,
    rows: RequestRows,
    prepared: prepare.Prepared,
    yardsticks: Mapping[str, Sequence],
    rates: Sequence[float],
    seed: int,
) -> list[dict]:
    """
    Is the model, unlearned with the trainer's own stop rule, told from a retrained one? For each gap, learning rate and
    yardstick.

    Args:
        yardsticks: name -> two models retrained without the rows, with other seeds; the second is judged, too.

    Returns:
        One dict each: `yardstick`, `gap`, `learning_rate`, `row_passes`, `stop_reason`, `verdict`, `gates` (name ->
        True, False, None where so few rows cannot decide) and the measures that the gates look at. The first of a
        yardstick is its second retrained model's.
    """
    found = [
        {"yardstick": name, "gap": "retrained again", "learning_rate": 0.0, "row_passes": None}
        | judged(pair[1], model, pair, rows, prepared, seed)
        for name, pair in yardsticks.items()
    ]
    for gap, rate in ((gap, rate) for gap in JUDGED_GAPS for rate in rates):
        trainer = unlearner(model, rows, Request(rate, options={"gap": gap, "stop": True}), seed)
        line = {"gap": gap, "learning_rate": rate, "row_passes": trainer.row_passes, "stop_reason": trainer.stop_reason}
        for name, pair in yardsticks.items():
            found.append({"yardstick": name, **line, **judged(trainer.model, model, pair, rows, prepared, seed)})
    return found


def judged(subject, model, retrained: Sequence, rows: RequestRows, prepared: prepare.Prepared, seed: int) -> dict:
    """
    What the report's verdict says of a model.

    Args:
        model: before the request.
        retrained: the yardstick, and another one, which is judged by the same limits as all others: it lowers none.

    Returns:
        `verdict`, `gates` and `measures`, as of [`verdicts`].
    """
    from hf_unlearn import evaluate
    from hf_unlearn.evaluation import evenly, judge
    from hf_unlearn.evaluation.gate_rules import VERDICT_GATES
    from hf_unlearn.evaluation.gates import Status

    splits = {**rows.splits, "retain": evenly(rows.splits["retain"], SAMPLE)}
    models = {"original": model, "unlearned": subject, "retrained": retrained[0], "retrained_again": retrained[1]}
    card = evaluate(models, splits, processing_class=prepared.processing_class, resamples=500, seed=seed)
    runs = [card[role].to_dict() for role in models]
    found = judge.judge_run(runs[1], before=runs[0], retrained=runs[2])
    values = {k: m["value"] for k, m in card["unlearned"].measures.items() if k.endswith(WATCHED)}
    passed = {Status.PASSED: True, Status.FAILED: False}  # else null, in the cells' JSON
    return {
        "verdict": found.verdict.value,
        "gates": {name: passed.get(found.status(name)) for name in VERDICT_GATES},
        "measures": {k: float(f"{v:.4g}") for k, v in values.items() if v is not None},
    }


def other_rows(rows: RequestRows, share: float, seed: int, by: str | None) -> RequestRows:
    """
    The same request for other rows: `share` of the forget rows (or of their values) are exchanged for as many of the
    retain rows'.

    Args:
        by: column whose values a request names; whole values are exchanged. None: single rows.
    """
    from dataclasses import replace

    from datasets import concatenate_datasets

    forget, retain = rows.splits["forget"], rows.splits["retain"]
    rng = np.random.default_rng([seed, 11])

    def draw(part, n: int) -> np.ndarray:
        if by is None:
            chosen = rng.permutation(len(part))[:n]
            return np.isin(np.arange(len(part)), chosen)
        values = np.array([str(v) for v in part[by]])
        return np.isin(values, rng.permutation(np.unique(values))[:n])

    n = round(share * (len(forget) if by is None else len(set(forget[by]))))
    out = np.ones(len(forget), bool) if share == 1 else draw(forget, n)
    into = draw(retain, n)
    parts = {
        "forget": [forget.select(np.flatnonzero(~out)), retain.select(np.flatnonzero(into))],
        "retain": [retain.select(np.flatnonzero(~into)), forget.select(np.flatnonzero(out))],
    }
    new = {name: concatenate_datasets([part for part in some if len(part)]) for name, some in parts.items()}
    return replace(rows, splits={**rows.splits, **new})


def thirds(rows: RequestRows, by: str | None) -> list[RequestRows]:
    """Three requests in a row for parts of the forget rows; what is still to come counts as retained."""
    from dataclasses import replace

    from datasets import concatenate_datasets

    forget = rows.splits["forget"]
    keys = np.arange(len(forget)) if by is None else np.unique([str(v) for v in forget[by]], return_inverse=True)[1]
    third = keys % 3
    found = []
    for k in range(3):
        now, later = (forget.select(np.flatnonzero(mask)) for mask in (third == k, third > k))
        retain = concatenate_datasets([rows.splits["retain"], later]) if len(later) else rows.splits["retain"]
        found.append(replace(rows, splits={**rows.splits, "forget": now, "retain": retain}))
    return found


def fine_tuned(model, rows: RequestRows, learning_rate: float, batch_size: int, seed: int):
    """A copy of the model after an ordinary epoch on the retain rows."""
    from transformers import Trainer, TrainingArguments

    model = copy.deepcopy(model)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        args = TrainingArguments(
            folder,
            num_train_epochs=1,
            learning_rate=learning_rate,
            per_device_train_batch_size=batch_size,
            seed=seed,
            **QUIET,
        )
        names = [n for n in rows.splits["retain"].column_names if n in ("input_ids", "attention_mask", "pixel_values")]
        part = rows.splits["retain"].select_columns([*names, "labels"])
        Trainer(model, args, train_dataset=part, data_collator=rows.collator).train()
    return model


def rows_of(
    data: arguments.DataArguments, prepared: prepare.Prepared, model, goal: str, **options: object
) -> RequestRows:
    from hf_unlearn.data.collate import default_collator

    classes = len(prepared.labels) if prepared.labels else 0
    collator = default_collator(model, prepared.processing_class)
    return RequestRows(dict(prepared.splits), collator, goal, classes, data.task, options)
