"""
What a memory costs that holds many sources: forward passes beside those of the model below, taken in turn, and what a
deletion, saving and loading take. The model has the shape of SmolLM2-135M, with drawn weights and a small vocabulary.
"""

from __future__ import annotations

import random
import tempfile
import time
from statistics import median, quantiles

from recipes.tools.bench import memory_search
from recipes.tools.bench.turns import synchronise

SHAPE = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
SHAPE |= {"num_key_value_heads": 3, "vocab_size": 2000}
SOURCES = {100: 1.10, 1000: 1.30}  # number -> what a forward may take, of the model below
ROWS, WINDOWS = 4, 6  # of a batch; that a source is recognised by, as authors and people are
DROP, DROPS = 50.0, 9  # milliseconds that a deletion may take; how many are timed


def parts(args, shape: dict) -> tuple:
    """`(model with a memory that knows public rows, its store, a function of batches of random tokens)`."""
    import torch
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from hf_unlearn import MemoryConfig
    from hf_unlearn.readiness.memory.model import store_of

    torch.manual_seed(0)
    below = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=max(64, args.length)))
    model = get_peft_model(below, MemoryConfig()).to("cpu" if args.cpu else "cuda").eval()
    store, draw = store_of(model), torch.Generator().manual_seed(0)

    def batch(rows: int, length: int = args.length):
        return torch.randint(0, shape["vocab_size"], (rows, length), generator=draw).to(model.device)

    with store.record() as found, torch.no_grad():
        model(input_ids=batch(2 * ROWS), use_cache=False)
    store.learn_public([list(found.inputs[at][0].split(args.length)) for at in sorted(found.inputs)])
    return model, store, batch


def tables_of(model, store, batch, sources: int):
    """
    Tables of drawn values; and the rows that name the first of these sources: eight tokens of each, its "name".

    Returns:
        `(Tables, (ROWS, 8) tokens)`.
    """
    import torch

    from hf_unlearn.readiness.memory.tables import Table, Tables

    config, draw = store.config, torch.Generator().manual_seed(1)
    tables, names = Tables(config.entries, len(store.hidden)), batch(ROWS, 8)
    with store.record() as found, torch.no_grad():
        model(input_ids=names, use_cache=False)
    states, rows = [found.inputs[at][0] for at in sorted(found.inputs)], torch.arange(ROWS).repeat_interleave(8)
    known = []
    for number in range(ROWS):
        own = rows == number
        asks = torch.ones(int(own.sum()), dtype=torch.bool)
        known.append(store.begin([one[own] for one in states], rows[own], asks, asks))
    for number in range(sources):
        if number < len(known):
            entries, inputs, floors = known[number].entries, known[number].inputs, known[number].floors
        else:
            entries = [
                torch.randperm(config.entries, generator=draw)[: config.entries_per_source].sort().values
                for _ in store.hidden
            ]
            inputs = torch.randn(WINDOWS, known[0].inputs.shape[1], generator=draw)
            inputs, floors = inputs / inputs.norm(dim=1, keepdim=True) / config.window**0.5, torch.full((WINDOWS,), 0.7)
        sizes = zip(map(len, entries), store.hidden, strict=True)
        values = [torch.randn(*size, generator=draw).half() / 10 for size in sizes]
        tables.by_source[f"{number:032x}"] = Table(entries, values, inputs.half(), floors)
    return tables, names


def figures(
    args, shape: dict | None = None, sources: dict[int, float] | None = None, searched=memory_search.SOURCES
) -> list[dict]:
    """Lines of the table: times as multiples of the forward of the model below, seconds, milliseconds, bytes."""
    import torch

    sources = SOURCES if sources is None else sources
    model, store, batch = parts(args, SHAPE if shape is None else shape)
    lines, names = [], None
    rows = {"that name nobody": batch(ROWS)}
    for number, most in sources.items():
        store.tables, names = tables_of(model, store, batch, number)
        rows["that name a source"] = torch.cat([names, batch(ROWS, max(1, args.length - 8))], dim=1)
        for what, ids in rows.items():
            ratios = in_turn(model, ids, args.rounds)
            lines.append(
                {
                    "what": f"forward of rows {what}, {number} sources",
                    "value": median(ratios), "unit": "×", "target": most,
                    "quartiles": quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2,
                }
            )  # fmt: skip
    lines += of_files(model, store, next(reversed(sources)))
    store.tables.drop(list(store.tables.by_source))  # 10,000 sources' windows take room
    if args.cpu:
        forward = seconds_below(model, batch(ROWS))
        lines += memory_search.figures(store.keys[0].width, store.config.window, forward, searched)
    for line in lines:
        line["met"] = None if line["target"] is None else line["value"] <= line["target"]
    return lines


def in_turn(model, ids, rounds: int) -> list[float]:
    """Times of forwards with the memory over those without, in turn."""
    import torch

    def seconds(memory: bool) -> float:
        with torch.no_grad():
            synchronise()
            start = time.perf_counter()
            if memory:
                model(input_ids=ids, use_cache=False)
            else:
                with model.disable_adapter():
                    model(input_ids=ids, use_cache=False)
            synchronise()
            return time.perf_counter() - start

    found = []
    for turn in range(rounds + 1):  # the first is to warm up
        order = [True, False]
        random.Random(turn).shuffle(order)
        times = {memory: seconds(memory) for memory in order}
        found.append(times[True] / times[False])
    return found[1:]


def seconds_below(model, ids) -> float:
    """CPU seconds of the model below the memory."""
    import torch

    def run():
        with torch.no_grad(), model.disable_adapter():
            model(input_ids=ids, use_cache=False)

    return memory_search.seconds(run)


def of_files(model, store, sources: int) -> list[dict]:
    """What deleting a source takes, and saving and loading all."""
    from safetensors.torch import load_file

    from hf_unlearn.readiness.memory.sealing import opened

    def timed(run, clock=time.perf_counter) -> float:
        start = clock()
        run()
        return clock() - start

    tables, base = store.tables, model.base_model.model
    last = list(tables.by_source)[-min(DROPS, len(tables) - 1) :]
    drop = median(timed(lambda one=one: tables.drop([one])) for one in last)
    joined = timed(lambda: tables.joined(model.device))
    with tempfile.TemporaryDirectory() as folder:
        cpu, file = time.process_time, f"{folder}/adapter_model.safetensors"
        save = timed(lambda: model.save_pretrained(folder), cpu)
        load = timed(lambda: store.load(opened(load_file(file), base)), cpu)
    kilobytes = tables.bytes / len(tables) / 1000
    of = f"{sources} sources"
    return [
        {"what": f"deleting one of {of}", "value": 1000 * drop, "unit": "ms", "target": DROP},
        {"what": "  and putting the others together again, at the next forward", "value": 1000 * joined, "unit": "ms",
         "target": None},
        {"what": f"saving {of}, in one file", "value": save, "unit": "CPU s", "target": None},
        {"what": f"loading {of}, with their digests", "value": load, "unit": "CPU s", "target": None},
        {"what": "bytes of a source", "value": kilobytes, "unit": "kB", "target": 1000.0},
    ]  # fmt: skip


def table(lines: list[dict]) -> str:
    """The lines as text."""
    from hf_unlearn.utils.aligned import aligned

    rows = [("figure", "must be", "is", "middle half")]
    for line in lines:
        target = "" if line["target"] is None else f"≤ {line['target']:g} {line['unit']}"
        spread = " – ".join(f"{q:.2f}" for q in line["quartiles"]) if "quartiles" in line else line.get("note", "")
        mark = " !" if line["met"] is False else ""
        rows.append((line["what"], target, f"{line['value']:.3g} {line['unit']}{mark}", spread))
    return aligned(rows, left=(0, 1))
