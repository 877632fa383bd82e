"""Does a memory learn what its sources say, also asked otherwise, and is a source gone when its table is?

    python -m recipes.study.memories --sources 20 104 --seeds 0 [--arms own LoRA] [--output_dir outputs/memories]
    python -m recipes.study.memories --table [--publish]

Fictional people, four rows each, beside a small model that was trained on 480 other people: the sources are the people.
Every cell (arm, sources, seed) is one JSON file in OUTPUT_DIR; a killed run goes on where it was. `own` is a memory
with tables of their own, `LoRA` an adapter of rank 32 on the same rows for as many epochs. "asked otherwise" are the
same questions in another phrasing, in which no source was trained; "others" are questions on people that nobody was
trained on, of the other 480's kind. `--table` prints what is there; with `--publish` it also becomes
results/memories.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from hf_unlearn import MemoryConfig, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer, default_collator
from hf_unlearn.data.rows.people import ATTRIBUTES, people
from hf_unlearn.evaluation import evaluating
from hf_unlearn.objectives.row_nll import per_row_nll
from hf_unlearn.utils.aligned import aligned
from hf_unlearn.utils.files import write_json
from hf_unlearn.utils.flags import with_underscores

RESULTS = Path(__file__).parent / "results" / "memories.json"
OTHERS, OTHERS_SEED, TESTED = 480, 1000, 160  # people below the sources; rows of theirs that the base does not see
STEPS, BATCH, PEAK = 600, 32, 3e-3  # of the base's training
EPOCHS, LORA_RATE = 30, 3e-3
QUIET = {"report_to": [], "save_strategy": "no", "logging_steps": 500, "use_cpu": True, "disable_tqdm": True}
ARMS = ("own", "LoRA")
SHARES = (0.01, 0.1, 0.5)  # of the sources, deleted one after the other


# ---- rows and the model below --------------------------------------------------------------------------------------


def tokenizer_of(rows):
    """A byte-level tokenizer that has seen the other people alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([f"{row['question']} {row['answer']}" for row in rows], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def encoded(rows, tokenizer, person: bool = True) -> list[dict]:
    """Token rows whose labels are the answers; without `person` of no source."""
    found = []
    for row in rows:
        prompt = [1, *tokenizer(row["question"]).input_ids]
        answer = [*tokenizer(f" {row['answer']}").input_ids, 2]
        ids = prompt + answer
        labels = [-100] * len(prompt) + answer
        mask = [1] * len(ids)
        source = row["person"] if person else None
        found.append({"id": row["id"], "input_ids": ids, "attention_mask": mask, "labels": labels, "person": source})
    return found


def asked_otherwise(rows) -> list[dict]:
    """The same facts in the next phrasing of their question."""
    found = []
    for row in rows:
        questions = [one.format(name=row["person"]) for one in ATTRIBUTES[row["id"].split("-")[1]][0]]
        other = questions[(questions.index(row["question"]) + 1) % len(questions)]
        found.append({**row, "question": other})
    return found


def base_in(folder: Path) -> None:
    """Trains the model below into a folder, unless it is there."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if (folder / "config.json").is_file():
        return
    rows = list(people(OTHERS, OTHERS_SEED))
    tokenizer = tokenizer_of(rows)
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "num_attention_heads": 4}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes, **ends))
    known, collate = encoded(rows, tokenizer)[:-TESTED], default_collator(model, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK, weight_decay=0.01)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1, (step + 1) / 50) * min(1, max(0.02, 2 * (STEPS - step) / STEPS))
        batch = collate([known[i] for i in torch.randint(0, len(known), (BATCH,)).tolist()])
        nll, items = per_row_nll(
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
        )
        optimizer.zero_grad()
        (nll / items).mean().backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# ---- what is measured ----------------------------------------------------------------------------------------------


def measured(model, rows: list[dict], tokenizer) -> dict:
    """Mean loss of a row in nats, and the share of rows whose answer is right to the last token."""
    collate, losses, right = default_collator(model, tokenizer), [], []
    with evaluating(model), torch.no_grad():
        for start in range(0, len(rows), 64):
            batch = collate(rows[start : start + 64])
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            nll, items = per_row_nll(logits, batch["labels"])
            labels = batch["labels"][:, 1:]
            losses.append(nll / items)
            right.append(((logits[:, :-1].argmax(-1) == labels) | (labels == -100)).all(1).float())
    return {"loss": torch.cat(losses).mean().item(), "right": torch.cat(right).mean().item()}


def looked_at(model, sets: dict, tokenizer) -> dict:
    return {name: measured(model, rows, tokenizer) for name, rows in sets.items()}


def cell(arm: str, sources: int, seed: int, base: Path) -> dict:
    """Trains an arm, measures it, and, of a memory, deletes more and more sources from it."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = list(people(sources, seed))
    others = encoded(list(people(OTHERS, OTHERS_SEED)), tokenizer, person=False)
    rows = encoded(plain, tokenizer)
    sets = {"learned": rows, "asked otherwise": encoded(asked_otherwise(plain), tokenizer), "others": others[-TESTED:]}
    public = others[:400] if arm == "own" else []
    with tempfile.TemporaryDirectory() as out:
        args = {"num_train_epochs": EPOCHS, "seed": seed, **QUIET}
        if arm == "own":
            args |= {"readiness": "memory", "request_group": "person", "per_device_train_batch_size": 4}
            peft_config = MemoryConfig(seed=seed)
        else:
            args |= {"readiness": "none", "learning_rate": LORA_RATE, "per_device_train_batch_size": 16}
            peft_config = LoraConfig(r=32, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM")
        began = time.perf_counter()
        data = Dataset.from_list([{**row, "id": str(i)} for i, row in enumerate(rows + public)])
        trainer = ReadyTrainer(
            str(base),
            ReadyConfig(f"{out}/ready", **args),
            data,
            revocable=None,
            processing_class=tokenizer,
            peft_config=peft_config,
        )
        trainer.train()
        found = {"arm": arm, "sources": sources, "seed": seed, "seconds": time.perf_counter() - began}
        found |= {"row_passes": trainer.cost["row_passes"], "after": looked_at(trainer.model, sets, tokenizer)}
        with trainer.model.disable_adapter():
            found["below"] = looked_at(trainer.model, sets, tokenizer)
        if arm == "own":
            found["bytes"] = trainer.store.tables.bytes / sources
            trainer.save_model()
            found["deleted"] = deletions(f"{out}/ready", rows, sources, tokenizer, trainer)
    return found


def deletions(folder: str, rows: list[dict], sources: int, tokenizer, trainer) -> list[dict]:
    """Deletes shares of the sources, one request after the other; what is left of each, and of the others."""
    found, before = [], {source: dict(t.tensors()) for source, t in trainer.store.tables.by_source.items()}
    for turn, share in enumerate(SHARES):
        done = 0 if not found else found[-1]["rows"]
        gone = max(done + 4, round(share * sources) * 4)  # four rows of each person, who follow each other
        args = UnlearnConfig(f"{folder}{turn}", **{**QUIET, "logging_steps": 1})
        request = UnlearnTrainer(folder, args, [str(i) for i in range(done, gone)], processing_class=tokenizer)
        request.train()
        request.save_model()
        folder = f"{folder}{turn}"
        left = {source: dict(t.tensors()) for source, t in request.store.tables.by_source.items()}
        same = all(torch.equal(one, before[source][name]) for source, own in left.items() for name, one in own.items())
        found.append(
            {
                "share": share,
                "rows": gone,
                "milliseconds": 1000 * request.outcome()["drop_seconds"],
                "others_same_bits": same,
                "gone": measured(request.model, rows[:gone], tokenizer),
                "others": measured(request.model, rows[gone:], tokenizer),
            }
        )
    return found


# ---- the page ------------------------------------------------------------------------------------------------------


def _of_others(found: dict, when: str) -> float:
    return found[when]["others"]["loss"]


def table(cells: list[dict]) -> str:
    """Markdown tables of what was measured, means over seeds."""
    lines = [
        (
            "arm",
            "sources",
            "seeds",
            "right",
            "asked otherwise",
            "loss on others (below)",
            "row passes",
            "seconds",
            "kB a source",
        )
    ]
    groups = sorted({(one["sources"], one["arm"]) for one in cells})
    for sources, arm in groups:
        own = [one for one in cells if (one["sources"], one["arm"]) == (sources, arm)]

        def mean(read, own=own):
            return sum(map(read, own)) / len(own)

        size = f"{mean(lambda c: c['bytes']) / 1000:.0f}" if arm == "own" else "–"
        lines.append(
            (
                arm,
                str(sources),
                str(len(own)),
                f"{mean(lambda c: c['after']['learned']['right']):.3f}",
                f"{mean(lambda c: c['after']['asked otherwise']['right']):.3f}",
                f"{mean(lambda c: _of_others(c, 'after')):.3f} ({mean(lambda c: _of_others(c, 'below')):.3f})",
                f"{mean(lambda c: c['row_passes']):,.0f}",
                f"{mean(lambda c: c['seconds']):.0f}",
                size,
            )
        )
    gone = [
        (
            "sources",
            "deleted",
            "ms",
            "its own right",
            "its loss (below)",
            "others right",
            "others' tables the same bits",
        )
    ]
    for one in (one for one in cells if one["arm"] == "own"):
        for step in one["deleted"]:
            gone.append(
                (
                    str(one["sources"]),
                    f"{step['share']:.0%}",
                    f"{step['milliseconds']:.2f}",
                    f"{step['gone']['right']:.3f}",
                    f"{step['gone']['loss']:.2f} ({one['below']['learned']['loss']:.2f})",
                    f"{step['others']['right']:.3f}",
                    "yes" if step["others_same_bits"] else "no",
                )
            )
    return "\n\n".join(aligned(rows) for rows in (lines, gone) if len(rows) > 1)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", nargs="+", type=int, default=[20, 104], help="numbers of people")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of people and training")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--output_dir", default="outputs/memories", help="one JSON file a cell, and the model below")
    parser.add_argument("--table", action="store_true", help="print what is there, and run nothing")
    parser.add_argument("--publish", action="store_true", help=f"with --table: write {RESULTS.name}, too")
    args = parser.parse_args(with_underscores(argv))
    out = Path(args.output_dir)
    if not args.table:
        base_in(out / "base")
        for seed in args.seeds:
            for sources in args.sources:
                for arm in args.arms:
                    path = out / f"{arm}-{sources}-{seed}.json"
                    if not path.is_file():
                        write_json(path, cell(arm, sources, seed, out / "base"))
                        print(f"{path} is there.", flush=True)
        return
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*-*-*.json"))]
    cells = cells or json.loads(RESULTS.read_text(encoding="utf-8"))
    print(table(cells))
    if args.publish:
        write_json(RESULTS, cells)


if __name__ == "__main__":
    main()
