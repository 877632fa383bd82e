"""A cell of the study of memories: trains an arm, measures it, deletes from it, tries to bring back what is gone."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from hf_unlearn import MemoryConfig, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer, default_collator
from hf_unlearn.evaluation import evaluating, forget_quality_of
from hf_unlearn.evaluation.attacks.generate import generate
from hf_unlearn.objectives.row_nll import per_row_nll
from hf_unlearn.trainers import known_rows
from hf_unlearn.trainers.memory_arguments import LEARNING_RATES
from recipes.study import memories_rows
from recipes.study.memories_rows import Rows

QUIET = {"report_to": [], "save_strategy": "no", "logging_steps": 500, "use_cpu": True, "disable_tqdm": True}
SHARES = (0.01, 0.1, 0.5)  # of the sources, deleted one after the other
ANOTHER = 1000  # what the seed of a second training differs by
AGAIN, AGAIN_RATE, AGAIN_BATCH = 30, 3e-4, 8  # steps of fine-tuning all weights after a deletion


@dataclass(frozen=True)
class MemoryTask:
    """
    Args:
        rows: (sources, seed, tokenizer, folder of data) -> [`Rows`].
        a_source: rows of one.
        base: name of the folder of the model below, in DATA; None: it is trained here.
        epochs, batch: of all arms; the batch, of one source's rows, is of tables of their own.
        lora: batch, learning rate and rank of the arm LoRA; `shared` has the same batch.
        rates: learning rates of memories, by the variant.
        measured: rows of a batch.
        generated: rows that are answered freely.
        wrong: rows of which a truth ratio is measured.
        dtype: of the model below.
        memory: values of `MemoryConfig` that are not its defaults.
    """

    rows: Callable[..., Rows]
    a_source: int
    base: str | None
    epochs: int
    batch: int
    lora: tuple[int, float, int]
    rates: dict[str, float]
    measured: int
    generated: int
    wrong: int
    dtype: str = "float32"
    memory: dict = field(default_factory=dict)


RATES = dict(LEARNING_RATES)
TASKS = {
    "people": MemoryTask(memories_rows.rows_of_people, 4, None, 30, 4, (16, 3e-3, 32), RATES, 64, 80, 80),
    "smollm2": MemoryTask(
        memories_rows.rows_of_authors, 10, "smollm2-135m", 10, 2, (4, 1e-3, 16), {**RATES, "own": 1.0}, 16, 8, 10,
        "bfloat16"
    ),  # fmt: skip
}


# ---- what is measured ----


def losses_of(model, rows: list[dict], tokenizer, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each row: loss in nats, summed over its answer; tokens of the answer; whether all of them come first."""
    collate, found = default_collator(model, tokenizer), []
    with evaluating(model), torch.no_grad():
        for start in range(0, len(rows), size):
            batch = collate(rows[start : start + size])
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            labels = batch["labels"][:, 1:]
            right = ((logits[:, :-1].argmax(-1) == labels) | (labels == -100)).all(1)
            found.append((*per_row_nll(logits, batch["labels"]), right))
    return tuple(torch.cat(own) for own in zip(*found, strict=True))


def measured(model, rows: list[dict], tokenizer, size: int = 64) -> dict:
    """Mean loss of a row in nats, perplexity over all tokens, and the share of answers right to the last token."""
    nll, items, right = losses_of(model, rows, tokenizer, size)
    return {
        "loss": (nll / items).mean().item(),
        "perplexity": math.exp(nll.sum().item() / items.sum().item()),
        "right": right.float().mean().item(),
    }


def truth_ratio(model, wrong: list[list[dict]], tokenizer, size: int) -> float:
    """Mean over rows of p(wrong answer)/p(right one), each a geometric mean over tokens; smaller is better."""
    nll, items, _ = losses_of(model, [one for own in wrong for one in own], tokenizer, size)
    each = (-nll / items).exp().split([len(own) for own in wrong])
    return sum(float(own[1:].log().mean().exp() / own[0]) for own in each) / len(each)


def looked_at(model, rows: Rows, tokenizer, task: MemoryTask) -> dict:
    """All that is measured of a model."""
    found = {name: measured(model, own, tokenizer, task.measured) for name, own in rows.sets.items()}
    for name in ("learned", "asked otherwise"):
        some = rows.sets[name][:: max(1, len(rows.sets[name]) // task.generated)][: task.generated]
        answers = generate(model, some, tokenizer, max_new_tokens=48, batch_size=task.measured)
        rouge = answers.column("rougeL_recall").to_pylist()
        found[name]["generated"] = sum(answers.column("exact").to_pylist()) / len(some)
        found[name]["rouge"] = sum(rouge) / len(some)
    some = rows.wrong[:: max(1, len(rows.wrong) // task.wrong)][: task.wrong]
    found["learned"]["truth_ratio"] = truth_ratio(model, some, tokenizer, task.measured)
    return found


# ---- a cell ----


def cell(
    name: str,
    arm: str,
    sources: int,
    seed: int,
    base: Path,
    data: Path | None,
    rate: float | None = None,
    memory: dict | None = None,
) -> dict:
    """
    Trains an arm, measures it, and, of a memory, deletes more and more sources from it.

    Args:
        rate: of a memory; None: the task's.
        memory: values of `MemoryConfig` that are not its defaults.
    """
    from transformers import AutoTokenizer

    task, tokenizer = TASKS[name], AutoTokenizer.from_pretrained(base)
    task = task if rate is None else replace(task, rates=dict.fromkeys(task.rates, rate))
    task = replace(task, memory=memory or {})
    rows = task.rows(sources, seed, tokenizer, data)
    with tempfile.TemporaryDirectory() as out:
        began = time.process_time()
        trainer = trained(f"{out}/ready", arm, task, rows, seed, base, tokenizer)
        seconds = time.process_time() - began
        found = {"task": name, "arm": arm, "sources": sources, "seed": seed, "seconds": seconds}
        found |= {"row_passes": trainer.cost["row_passes"], "after": looked_at(trainer.model, rows, tokenizer, task)}
        if arm in task.rates:
            found["bytes"] = trainer.store.tables.bytes / sources
            trainer.save_model()
            with trainer.model.disable_adapter():
                found["below"] = looked_at(trainer.model, rows, tokenizer, task)
            found["deleted"], last = deletions(f"{out}/ready", rows, sources, tokenizer, trainer, task)
            gone = found["deleted"][-1]["rows"]

            def never(seed: int):
                return trained(f"{out}/never{seed}", arm, task, rows, seed, base, tokenizer, map(str, range(gone)))

            if arm == "own":
                found["as_never_trained"] = same_bits(tensors_of(last), tensors_of(never(seed)))
            else:
                models = (last.model, never(seed).model, never(seed + ANOTHER).model)
                found["beside_never_trained"] = told_apart(models, rows.sources[:gone], tokenizer, task)
            for turn in (0, len(SHARES) - 1):
                key = "recovered" if turn == 0 else "recovered after the last"
                gone = found["deleted"][turn]["rows"]
                again = f"{out}/again{turn}"
                found[key] = recovered(f"{out}/ready{turn}", arm, rows, gone, task, tokenizer, again)
    return found


def trained(folder: str, arm: str, task: MemoryTask, rows: Rows, seed: int, base, tokenizer, deleted=()):
    """A trainer after its training."""
    from datasets import Dataset
    from peft import LoraConfig

    args = {"seed": seed, "model_init_kwargs": {"dtype": task.dtype}, **QUIET}
    if arm in task.rates:
        args |= arguments(arm, task)
        peft_config = MemoryConfig(**{"seed": seed, "variant": arm, **task.memory})
        every = [*rows.sources, *rows.public]
    else:
        batch, rate, rank = task.lora
        args |= {"readiness": "none", "learning_rate": rate, "per_device_train_batch_size": batch}
        args["num_train_epochs"] = task.epochs
        peft_config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        every = rows.sources
    trainer = ReadyTrainer(
        str(base),
        ReadyConfig(folder, **args),
        Dataset.from_list([{**row, "id": str(i)} for i, row in enumerate(every)]),
        revocable=None,
        processing_class=tokenizer,
        peft_config=peft_config,
        **({"deleted": list(deleted)} if deleted else {}),
    )
    trainer.train()
    return trainer


def arguments(variant: str, task: MemoryTask) -> dict:
    """Of a memory's training."""
    return {
        "readiness": "memory",
        "request_group": "person",
        "num_train_epochs": task.epochs,
        "learning_rate": task.rates[variant],
        "per_device_train_batch_size": task.batch if variant == "own" else task.lora[0],
    }


def tensors_of(trainer) -> list[dict]:
    """The tables, in the order of the rows; their names depend on the salt of the folder."""
    return [dict(trainer.store.tables.by_source[source].tensors()) for source in trainer.all_rows.sources]


def same_bits(one: list[dict], other: list[dict]) -> bool:
    """Whether two lists of tables are the same."""
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(one, other, strict=True)
    )


def deletions(folder: str, rows: Rows, sources: int, tokenizer, trainer, task: MemoryTask):
    """
    Deletes shares of the sources, one request after the other.

    Returns:
        `(of each what is left of the deleted, of the others and of other texts, the trainer of the last one)`.
    """
    found, before, request = [], tensors_of(trainer), None
    for turn, share in enumerate(SHARES):
        done = 0 if not found else found[-1]["rows"]
        gone = max(done + task.a_source, round(share * sources) * task.a_source)
        args = UnlearnConfig(f"{folder}{turn}", **{**QUIET, "logging_steps": 1})
        source = folder if not turn else f"{folder}{turn - 1}"
        request = UnlearnTrainer(source, args, [str(i) for i in range(done, gone)], processing_class=tokenizer)
        request.train()
        began = time.perf_counter()
        request.save_model()
        with request.model.disable_adapter():
            below = measured(request.model, rows.sources[:gone], tokenizer, task.measured)
        found.append(
            {
                "share": share,
                "rows": gone,
                "milliseconds": 1000 * request.outcome()["drop_seconds"],
                "saving_milliseconds": 1000 * (time.perf_counter() - began),
                "others_same_bits": same_bits(tensors_of(request), before[gone // task.a_source :]),
                "below": below,
                "gone": measured(request.model, rows.sources[:gone], tokenizer, task.measured),
                "others": measured(request.model, rows.sources[gone:], tokenizer, task.measured),
                "texts": measured(request.model, rows.sets["others"], tokenizer, task.measured),
            }
        )
    return found, request


def told_apart(models: tuple, gone: list[dict], tokenizer, task: MemoryTask) -> dict:
    """
    The losses of deleted rows: by a model after all deletions against one that was never trained on them, and by two
    such models against each other; p-values and distances of Kolmogorov-Smirnov tests.
    """
    each = [losses_of(model, gone, tokenizer, task.measured) for model in models]
    losses = [(nll / items).tolist() for nll, items, _ in each]
    (p, distance), (p_two, distance_two) = forget_quality_of(*losses[:2]), forget_quality_of(*losses[1:])
    means = [sum(own) / len(own) for own in losses]
    return {"p": p, "distance": distance, "p of two": p_two, "distance of two": distance_two, "losses": means}


def recovered(folder: str, arm: str, rows: Rows, gone: int, task: MemoryTask, tokenizer, out: str) -> dict:
    """
    After a deletion: what half of the rows of the source that was deleted last bring back of the other half, in a new
    table; and what fine-tuning all weights on rows that are left brings back of all. With tables of their own the
    deleted model has the bits of one that was never trained on them, so that what comes back is no trace of theirs: it
    is what these rows teach anybody.

    Args:
        folder: of the model after it.
        arm: its variant.
        gone: rows that are deleted, the first ones.
    """
    from datasets import Dataset

    Path(folder, known_rows.FILE).unlink(missing_ok=True)  # by which a training refuses rows that were to be forgotten
    own = rows.sources[gone - task.a_source : gone]
    half = task.a_source // 2
    some = Dataset.from_list([{**row, "id": f"new {i}"} for i, row in enumerate(own[:half])])
    config = ReadyConfig(out, **arguments(arm, task), **QUIET)
    trainer = ReadyTrainer(folder, config, some, revocable=None, processing_class=tokenizer)
    before = measured(trainer.model, own[half:], tokenizer, task.measured)
    trainer.train()
    found = {"before": before, "new table": measured(trainer.model, own[half:], tokenizer, task.measured)}
    model, others = trainer.model, rows.sources[gone:][: AGAIN * AGAIN_BATCH]
    trainer.store.tables.drop([trainer.rows_of_memory.sources[0]])
    collate = default_collator(model, tokenizer)
    weights = [p.requires_grad_() for name, p in model.named_parameters() if "memory_" not in name]
    optimizer = torch.optim.AdamW(weights, AGAIN_RATE)
    model.eval()  # so that all tables speak
    for step in range(AGAIN):
        at = [(step * AGAIN_BATCH + i) % len(others) for i in range(AGAIN_BATCH)]
        batch = collate([others[i] for i in at])
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        nll, items = per_row_nll(logits, batch["labels"])
        optimizer.zero_grad()
        (nll / items).mean().backward()
        optimizer.step()
    return {**found, "all weights": measured(model, own, tokenizer, task.measured)}


def cells_in(out: Path) -> list[dict]:
    """What is there."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*-*-*-*.json"))]
