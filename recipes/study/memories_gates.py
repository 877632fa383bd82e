"""Whom does a memory's gate let speak? Of each set of questions, the share at which a source is recognised.

    python -m recipes.study.memories_gates --task people --sources 104 [--windows 1 2 4 6] [--floors 0.7 0.8]
    python -m recipes.study.memories_gates --task smollm2 --sources 20 --data DIR

No table is trained for that: what a source is recognised by follows from its rows and the model below alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from hf_unlearn import MemoryConfig, default_collator
from hf_unlearn.cli import running
from hf_unlearn.readiness.memory import gate
from hf_unlearn.readiness.memory.mlp_modules import chosen_layers
from hf_unlearn.readiness.memory.model import store_of
from hf_unlearn.readiness.memory.passing import Passing
from hf_unlearn.readiness.memory.store import Store
from hf_unlearn.readiness.memory.view import seen
from hf_unlearn.utils.aligned import aligned
from hf_unlearn.utils.flags import with_underscores
from recipes.study.memories_cells import TASKS
from recipes.study.memories_rows import Rows, base_of_people
from recipes.tools import jobs

SETS = ("learned", "asked otherwise", "unrelated")
HEAD = ("window", "c₀", "learned", "asked otherwise", "of these, wrong", "strangers", "unrelated", "windows kept")


def states_of(rows: Rows, base: Path, tokenizer, dtype: str, size: int) -> dict[str, list[Tensor]]:
    """For each row's prompt, of all sets and of public rows: inputs (n, hidden) of the layer that recognises."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    below = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    first = chosen_layers(None, dict.fromkeys(range(below.config.num_hidden_layers), ""))[0]
    model = get_peft_model(below, MemoryConfig(layers=[first])).eval()
    collate = default_collator(model, tokenizer)

    def recorded(own: list[dict]) -> list[Tensor]:
        found: list[Tensor] = []
        for start in range(0, len(own), size):
            prompts = [sum(label == -100 for label in row["labels"]) for row in own[start : start + size]]
            some = [
                {name: row[name][:n] for name in ("input_ids", "attention_mask", "labels")}
                for n, row in zip(prompts, own[start : start + size], strict=True)
            ]
            batch = collate(some)
            with store_of(model).record() as recording, torch.no_grad():
                model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
            states = recording.inputs[0][0].view(*batch["input_ids"].shape, -1)
            found += [one[mask.bool()] for one, mask in zip(states, batch["attention_mask"], strict=True)]
        return found

    sets = {name: own for name, own in rows.sets.items() if name in SETS}
    return {name: recorded(own) for name, own in {**sets, "strangers": rows.strangers, "public": rows.public}.items()}


def recognised(states: dict[str, list[Tensor]], owners: Tensor, config: MemoryConfig) -> dict[str, tuple[float, float]]:
    """
    Of each set the share of rows at which the right source is recognised best, and that at which another one is.

    Args:
        owners: (n,) number of the source of each row that is learned, and asked otherwise.
    """
    store = Store(config, [states["public"][0].shape[1]], Passing(causal=True), depth=1)
    store.learn_public([states["public"]])
    kept, slots = [], []
    for source in owners.unique().tolist():
        own = [states["learned"][i] for i in (owners == source).nonzero().flatten().tolist()]
        rows = torch.repeat_interleave(torch.arange(len(own)), torch.tensor([len(one) for one in own]))
        every = torch.ones(len(rows), dtype=torch.bool)
        working = store.begin([torch.cat(own)], rows, every, every)
        kept.append((working.inputs, working.floors))
        slots += [source] * len(working.inputs)
    inputs, floors = (torch.cat(parts) for parts in zip(*kept, strict=True))
    found = {"windows": (float(len(inputs)), 0.0)}
    for name in (name for name in (*SETS, "strangers") if name in states):
        right = wrong = 0
        for i, own in enumerate(states[name]):
            windows = gate.windowed_rows(seen(own, *store.views[0]), torch.zeros(len(own)), config.window)
            c, some = gate.heard(windows, inputs, floors, torch.tensor(slots))
            best = c.amax(0) if c.numel() else torch.full((1,), -1.0)
            if float(best.max()) > 0:
                is_own = name in SETS[:2] and int(some[best.argmax()]) == int(owners[i])
                right, wrong = right + is_own, wrong + (not is_own)
        found[name] = right / len(states[name]), wrong / len(states[name])
    return found


def main(argv: list[str]) -> None:
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(TASKS), default="people")
    parser.add_argument("--sources", type=int, default=104)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--windows", nargs="+", type=int, default=[1, 2, 4, 6, 8])
    parser.add_argument("--floors", nargs="+", type=float, default=[0.7, 0.8])
    parser.add_argument("--data", help="folder with tofu/ and smollm2-135m/, for smollm2")
    parser.add_argument("--output_dir", default="outputs/memories", help="where the model below people is")
    args = parser.parse_args(with_underscores(argv))
    task, data = TASKS[args.task], args.data and Path(args.data)
    if task.base and not data:
        parser.error("name the folder of the rows and the model by --data")
    jobs.quiet()
    base = data / task.base if task.base else Path(args.output_dir) / "base"
    if not task.base:
        base_of_people(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = task.rows(args.sources, args.seed, tokenizer, data)
    states = states_of(rows, base, tokenizer, task.dtype, task.measured)
    owners = torch.arange(len(rows.sources)) // task.a_source
    lines = [HEAD]
    for window in args.windows:
        for floor in args.floors:
            config = MemoryConfig(layers=[0], window=window, gate_floor=floor, seed=args.seed)
            found = recognised(states, owners, config)
            asked, windows = found["asked otherwise"], int(found["windows"][0])
            let_in = (found[name][1] if name in found else float("nan") for name in ("strangers", "unrelated"))
            shares = (found["learned"][0], *asked, *let_in)
            lines.append((str(window), f"{floor:g}", *(f"{share:.3f}" for share in shares), str(windows)))
    print(aligned(lines, left=()))


if __name__ == "__main__":
    running.run(main)
