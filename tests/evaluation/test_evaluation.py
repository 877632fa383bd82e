import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
    default_data_collator,
)

from hf_unlearn.evaluation import COLUMNS, collect, evaluate, measure

PAD = 0


def llama(seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=17,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        attention_dropout=0.5,
    )
    return LlamaForCausalLM(config)


def vit(seed=0):
    torch.manual_seed(seed)
    config = ViTConfig(
        image_size=4,
        patch_size=2,
        num_channels=1,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=3,
        hidden_dropout_prob=0.5,
    )
    return ViTForImageClassification(config)


def text_rows(lengths=(4, 9, 6, 5, 12), seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for i, length in enumerate(lengths):
        ids = rng.integers(1, 17, length).tolist()
        labels = [-100, -100, *ids[2:]]
        rows.append({"input_ids": ids, "attention_mask": [1] * length, "labels": labels, "person": f"p{i}"})
    return rows


def image_rows(n=7, seed=0):
    rng = np.random.default_rng(seed)
    return [{"pixel_values": rng.normal(size=(1, 4, 4)).astype("float32"), "labels": i % 3} for i in range(n)]


def pad(side):
    def collator(rows):
        width = max(len(row["input_ids"]) for row in rows)

        def fill(values, value):
            gap = [value] * (width - len(values))
            return gap + values if side == "left" else values + gap

        return {
            "input_ids": torch.tensor([fill(row["input_ids"], PAD) for row in rows]),
            "attention_mask": torch.tensor([fill(row["attention_mask"], 0) for row in rows]),
            "labels": torch.tensor([fill(row["labels"], -100) for row in rows]),
        }

    return collator


def table(loss, *, n_labels=None, n_correct=None, entropy=None):
    loss = np.asarray(loss, float)
    n_labels = np.ones(len(loss), int) if n_labels is None else np.asarray(n_labels)
    n_correct = np.zeros(len(loss), int) if n_correct is None else np.asarray(n_correct)
    entropy = loss if entropy is None else np.asarray(entropy, float)
    values = (np.arange(len(loss)), loss * n_labels, n_labels, n_correct, entropy * n_labels)
    return pa.table({name: pa.array(v, getattr(pa, COLUMNS[name])()) for name, v in zip(COLUMNS, values, strict=True)})


# ---------------------------------------------------------------------------------------------------------------
# collect
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_collect_gives_each_rows_own_loss(side, batch_size):
    model, rows = llama().eval(), text_rows()
    collected = collect(model, Dataset.from_list(rows), pad(side), batch_size=batch_size)
    types = {field.name: str(field.type).replace("double", "float64") for field in collected.schema}
    assert COLUMNS.items() <= types.items() and types["token_nll"] == types["token_z"] == "list<item: float>"
    assert set(types) == {*COLUMNS, "row_hash", "n_suffix", "token_nll", "token_z"}  # no tokenizer: no zlib_bytes
    found = collected.to_pydict()
    assert found["row"] == list(range(len(rows)))
    for i, row in enumerate(rows):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            output = model(input_ids=ids, labels=labels)
        log_p = output.logits[0, 1:-1].double().log_softmax(-1)  # the positions that predict the labelled tokens
        assert found["n_labels"][i] == len(row["input_ids"]) - 2
        assert found["nll_sum"][i] / found["n_labels"][i] == pytest.approx(output.loss.item(), rel=1e-5)
        assert found["entropy_sum"][i] == pytest.approx(-(log_p.exp() * log_p).sum().item(), rel=1e-5)
        right = (log_p.argmax(-1) == labels[0, 2:]).tolist()
        assert found["n_correct"][i] == sum(right)
        assert found["n_suffix"][i] == next((k for k, hit in enumerate(reversed(right)) if not hit), len(right))
        chosen = log_p.gather(-1, labels[0, 2:, None])[:, 0]
        mean = (log_p.exp() * log_p).sum(-1)
        spread = ((log_p.exp() * log_p.square()).sum(-1) - mean.square()).sqrt()
        assert found["token_nll"][i] == pytest.approx((-chosen).tolist(), rel=1e-5)
        assert found["token_z"][i] == pytest.approx(((chosen - mean) / spread).tolist(), rel=1e-4, abs=1e-5)


def test_collect_pools_to_the_models_own_loss_on_a_ragged_batch():
    model, rows = llama().eval(), text_rows()
    batch = pad("right")(rows)
    found = collect(model, rows, pad("right"), batch_size=2)
    pooled = sum(found["nll_sum"].to_pylist()) / sum(found["n_labels"].to_pylist())
    assert pooled == pytest.approx(model(**batch).loss.item(), rel=1e-5)


def test_collect_takes_a_frame():
    model, rows = llama().eval(), text_rows()
    assert collect(model, pd.DataFrame(rows), pad("right")).equals(collect(model, rows, pad("right")))


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertConfig(vocab_size=17, max_position_embeddings=16, num_labels=3, **sizes)


def test_collect_classifiers():
    model, rows = vit().eval(), image_rows()
    found = collect(model, rows, default_data_collator, batch_size=3)
    output = model(**default_data_collator(rows))
    probability = output.logits.softmax(-1).detach().numpy()
    labels = np.array([row["labels"] for row in rows])
    assert found["nll_sum"].to_pylist() == pytest.approx(-np.log(probability[np.arange(7), labels]), rel=1e-5)
    assert np.mean(found["nll_sum"].to_pylist()) == pytest.approx(output.loss.item(), rel=1e-5)
    assert found["entropy_sum"].to_pylist() == pytest.approx(-(probability * np.log(probability)).sum(1), rel=1e-5)
    assert found["n_labels"].to_pylist() == [1] * 7
    assert found["n_correct"].to_pylist() == (probability.argmax(1) == labels).astype(int).tolist()

    model = BertForSequenceClassification(bert()).eval()
    rows = [{"input_ids": [1, 2, 3 + i], "attention_mask": [1, 1, 1], "label": i % 3, "intent": "x"} for i in range(4)]
    found = collect(model, Dataset.from_list(rows), default_data_collator, batch_size=3)
    batch = default_data_collator([{k: v for k, v in row.items() if k != "intent"} for row in rows])
    assert np.mean(found["nll_sum"].to_pylist()) == pytest.approx(model(**batch).loss.item(), rel=1e-5)


def test_collect_leaves_the_model_and_the_generators_as_they_were():
    model = llama().train()
    model.model.layers[0].mlp.eval()  # frozen while the rest trains
    modes = {name: module.training for name, module in model.named_modules()}
    assert set(modes.values()) == {True, False}
    weights = {name: p.clone() for name, p in model.named_parameters()}
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()

    first = collect(model, text_rows(), pad("right"), batch_size=2)
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["lm_head.weight"]
    assert torch.equal(model.lm_head.weight.grad, torch.ones_like(model.lm_head.weight))
    # Dropout of .5 on attention: only an eval pass repeats itself.
    assert first.equals(collect(model, text_rows(), pad("right"), batch_size=2))

    def broken(rows):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        collect(model, text_rows(), broken)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_collect_sees_through_peft():
    from peft import LoraConfig, get_peft_model

    plain = collect(llama(), text_rows(), pad("right"))
    wrapped = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"], r=2, lora_dropout=0.5))
    # `rows` hold a `person` column: pad() would not mind, so check what reaches the collator.
    seen = []
    found = collect(wrapped, text_rows(), lambda rows: seen.extend(rows) or pad("right")(rows))
    assert found["nll_sum"].to_pylist() == pytest.approx(plain["nll_sum"].to_pylist(), rel=1e-6)
    assert {key for row in seen for key in row} == {"input_ids", "attention_mask", "labels"}


def test_collect_refuses_what_it_cannot_measure():
    model = llama()
    with pytest.raises(ValueError, match="`dataset` is empty"):
        collect(model, [], pad("right"))
    with pytest.raises(ValueError, match="no labels"):
        collect(model, [{"input_ids": [1, 2], "attention_mask": [1, 1]}], default_data_collator)
    rows = text_rows()
    rows[3]["labels"] = [-100] * 5
    with pytest.raises(ValueError, match=r"in row 3 of"):
        collect(model, rows, pad("right"), batch_size=2)
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        collect(model, text_rows(), pad("right"), batch_size=0)
    with pytest.raises(ValueError, match="must not pack"):
        collect(model, text_rows(), lambda rows: {k: v[:1] for k, v in pad("right")(rows).items()})
    with pytest.raises(ValueError, match="float"):
        collect(vit(), [{**row, "labels": 0.5} for row in image_rows()], default_data_collator)
    with pytest.raises(ValueError, match="BertForMaskedLM"):
        collect(BertForMaskedLM(bert()), text_rows(), pad("right"))


# ---------------------------------------------------------------------------------------------------------------
# measures
# ---------------------------------------------------------------------------------------------------------------


def test_measures_by_hand_for_a_language_model():
    # rows of 4, 2 and 2 tokens with 4, 1 and 0 right, and mean losses 1, 2 and 4
    rows = table([1, 2, 4], n_labels=[4, 2, 2], n_correct=[4, 1, 0])
    found = measure({"retain": rows})
    value = {name: m["value"] for name, m in found.items()}
    assert value == pytest.approx(
        {
            "retain_loss": (4 + 4 + 8) / 8,
            "retain_token_accuracy": 5 / 8,
            "retain_prob": (math.exp(-1) + math.exp(-2) + math.exp(-4)) / 3,
            "retain_exact_memorisation": (1 + 0.5 + 0) / 3,
            "retain_exact_match": 1 / 3,
            "retain_perplexity": math.exp(2),
        }
    )
    assert all(m["n"] == 3 and m["low"] <= m["value"] <= m["high"] for m in found.values())


def test_measures_by_hand_for_a_classifier():
    found = measure({"test": table([0.5, 1.5, 1.0, 3.0], n_correct=[1, 0, 1, 1])})
    assert list(found) == ["test_loss", "test_accuracy", "test_prob"]
    assert found["test_loss"]["value"] == 1.5 and found["test_accuracy"]["value"] == 0.75


def test_intervals_have_the_width_of_the_standard_error_and_repeat():
    rng = np.random.default_rng(0)
    losses = rng.normal(5, 1, 400)
    tables = {"test": table(losses)}
    found = measure(tables, seed=3)["test_loss"]
    width = 2 * 1.96 * losses.std() / math.sqrt(400)
    assert found["high"] - found["low"] == pytest.approx(width, rel=0.1)
    assert measure(tables, seed=3)["test_loss"] == found != measure(tables, seed=4)["test_loss"]
    # Pooled loss is a ratio of sums: its interval moves with the row lengths, too.
    ragged = measure({"test": table(losses, n_labels=np.where(losses > 5, 9, 1))})["test_loss"]
    assert ragged["value"] > found["high"]


def test_sets_too_small_for_an_interval():
    one = measure({"forget": table([2.0]), "unseen": table([3.0, 1.0])}, resamples=20)
    assert one["forget_loss"] == {"value": 2.0, "low": None, "high": None, "n": 1}
    assert one["forget_mia_loss_auc"] == {"value": 0.5, "low": None, "high": None, "n": 3}
    assert one["forget_mia_loss_accuracy"] == {"value": None, "low": None, "high": None, "n": 2}
    assert one["unseen_loss"]["low"] == 1.0 and one["unseen_loss"]["high"] == 3.0
    two = measure({"forget": table([2.0, 2.5]), "unseen": table([3.0, 1.0])}, resamples=20)
    assert two["forget_mia_entropy_accuracy"]["value"] is not None


def test_a_diverged_model_gives_null_not_nan():
    losses = {"forget": table([np.nan, 1.0], n_labels=[2, 2]), "unseen": table([800.0, 900.0])}
    found = measure(losses, resamples=20)
    assert found["forget_loss"]["value"] is None and found["forget_mia_loss_auc"]["value"] is None
    assert found["unseen_loss"]["value"] == 850 and found["unseen_perplexity"]["value"] is None
    json.dumps(found, allow_nan=False)


def test_measures_can_be_chosen_and_unknown_ones_are_named():
    tables = {"forget": table([1.0, 2.0]), "unseen": table([1.0, 2.0])}
    everything = measure(tables, resamples=20)
    assert list(measure(tables, measures=["forget_mia_loss_auc"], resamples=20)) == ["forget_mia_loss_auc"]
    assert measure(tables, measures=["unseen_loss"], resamples=20)["unseen_loss"] == everything["unseen_loss"]
    with pytest.raises(ValueError, match=r"\['forget_los'\].*forget_loss.*forget_mia_entropy_accuracy"):
        measure(tables, measures=["forget_los"])
    with pytest.raises(ValueError, match="lacks"):
        measure({"forget": pa.table({"row": [0]})})
    with pytest.raises(ValueError, match="split `forget` has no rows"):
        measure({"forget": table([])})
    with pytest.raises(ValueError, match="`resamples` is 0"):
        measure(tables, resamples=0)


def test_chunks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    tables = {"forget": table(rng.normal(size=40)), "unseen": table(rng.normal(size=30))}
    whole = measure(tables, resamples=100)
    monkeypatch.setattr("hf_unlearn.evaluation.intervals.CHUNK_ELEMENTS", 70)
    pieces = measure(tables, resamples=100)
    assert pieces["forget_loss"] == whole["forget_loss"]
    for name, m in whole.items():
        assert pieces[name]["value"] == m["value"] and pieces[name]["low"] == pytest.approx(m["low"], abs=0.1)


def test_left_padding_does_not_move_absolute_positions():
    from helpers import tiny

    from hf_unlearn.data.collate import default_collator

    model, rows = tiny.lm64(), tiny.lm_rows(6)
    collator = default_collator(model, tiny.tokenizer("left"))
    alone = [collect(model, rows.select([i]), collator)["nll_sum"][0].as_py() for i in range(6)]
    assert np.allclose(collect(model, rows, collator, batch_size=6)["nll_sum"], alone, atol=1e-9)


@pytest.mark.parametrize("config", ["PromptTuningConfig", "PromptEncoderConfig"])
def test_learnt_prompts_do_not_move_the_labels(config):
    import peft
    from helpers import tiny

    from hf_unlearn.data.collate import default_collator
    from hf_unlearn.evaluation import relearn
    from hf_unlearn.objectives.row_nll import per_row_nll

    config = getattr(peft, config)(task_type="CAUSAL_LM", num_virtual_tokens=5)
    model = peft.get_peft_model(tiny.lm(), config)
    rows, collator = tiny.lm_rows(4), default_collator(model, tiny.tokenizer())
    batch = collator([dict(row) for row in rows])
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 5:]
    found = collect(model, rows, collator)
    assert np.allclose(found["nll_sum"], per_row_nll(logits, batch["labels"])[0], atol=1e-4)
    curve = relearn(model, rows, rows, collator, steps=1, trainable_only=True)  # the prompts alone
    assert curve[0]["loss"] == pytest.approx(sum(found["nll_sum"].to_pylist()) / sum(found["n_labels"].to_pylist()))
    assert curve[1]["loss"] != curve[0]["loss"]


def test_truth_ratio_of_hand_made_tables():
    def table(losses, groups=None):
        n = len(losses)
        columns = {"row": range(n), "nll_sum": losses, "n_labels": [1] * n, "n_correct": [0] * n}
        columns = {name: pa.array(list(values)) for name, values in {**columns, "entropy_sum": losses}.items()}
        return pa.table({**columns, **({"group": pa.array(groups)} if groups else {})})

    right, wrong = [0.5, 3.0], [1.0, 2.0, 0.5, 4.0]
    splits = ("forget", "retain", "real_authors")
    tables = {split: table(right) for split in splits}
    tables |= {f"{split}_perturbed": table(wrong, [0, 0, 1, 1]) for split in splits}
    found = measure(tables, resamples=10, causal_lm=True)
    p, q = np.exp(-np.array(right)), np.exp(-np.array(wrong).reshape(2, 2))
    ratio = q.mean(1) / p
    wanted = {
        "forget_truth_ratio": np.minimum(ratio, 1 / ratio).mean(),
        "retain_truth_ratio": np.maximum(0, 1 - ratio).mean(),
        "real_authors_prob": (p / (p + q.sum(1))).mean(),
        "retain_prob": p.mean(),
    }
    assert {name: found[name]["value"] for name in wanted} == pytest.approx(wanted, abs=1e-12)


def test_forget_quality_takes_the_geometric_truth_ratio():
    from hf_unlearn.evaluation import compare

    rng = np.random.default_rng(0)

    def tables(shift):
        found = {}
        for split, n in (("forget", 30), ("forget_perturbed", 60)):
            loss = rng.uniform(0, 3, n) + (shift if split == "forget" else 0)
            columns = {"row": np.arange(n), "nll_sum": loss, "n_labels": np.ones(n, int), "n_correct": np.zeros(n, int)}
            columns |= {"entropy_sum": loss} | ({"group": np.arange(n) // 2} if n == 60 else {})
            found[split] = pa.table(columns)
        return found

    from scipy.stats import ks_2samp

    one, two = tables(0.0), tables(0.5)
    ratios = [
        np.exp(t["forget"]["nll_sum"].to_numpy() - t["forget_perturbed"]["nll_sum"].to_numpy().reshape(30, 2).mean(1))
        for t in (one, two)
    ]
    assert compare(one, two)["forget_quality"]["value"] == pytest.approx(ks_2samp(*ratios).pvalue, abs=1e-12)


def test_ties_and_impossible_tokens():
    from hf_unlearn.evaluation.row_statistics import label_statistics

    tied = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert label_statistics(tied, torch.tensor([0, 1]))[3].tolist() == [1, 0]  # the first of equals
    logits = torch.tensor([[0.5, -1.0, -math.inf, 2.0]])
    seen = logits[:, [0, 1, 3]].double().log_softmax(1)[0]
    mean = (seen.exp() * seen).sum()
    z = (seen[0] - mean) / ((seen.exp() * seen**2).sum() - mean**2).sqrt()
    wanted = [float(value) for value in (-seen[0], z, -mean, 0.0)]
    assert label_statistics(logits, torch.tensor([0]))[:, 0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_a_model_split_by_data_parallel_is_measured_as_itself(monkeypatch):
    """`DataParallel` would cut `logits_to_keep` in pieces, one a device, and every position would be another."""
    from helpers import tiny

    from hf_unlearn.data.collate import default_collator

    model, rows = tiny.lm(), tiny.lm_rows(4)
    collator = default_collator(model, tiny.tokenizer())

    def split(self, *args, **kwargs):
        raise AssertionError("the rows were shared out over devices")

    monkeypatch.setattr(torch.nn.DataParallel, "forward", split)
    wrapped = torch.nn.DataParallel(model)
    assert collect(wrapped, rows, collator).equals(collect(model, rows, collator))
    evaluate({"original": wrapped}, {"forget": rows}, processing_class=tiny.tokenizer(), resamples=2)


def test_outputs_as_tuples_are_measured_and_what_has_no_logits_is_told():
    from helpers import tiny

    rows, collator = tiny.image_rows(3), default_data_collator
    model = tiny.vit()
    model.config.return_dict = False  # its own layers then trip over it
    with pytest.raises(ValueError, match='"original" returns tuples: `return_dict` of its config is False'):
        evaluate({"original": model}, {"forget": rows})

    class Headless(torch.nn.Module):
        def __init__(self, output):
            super().__init__()
            self.output = output

        def forward(self, pixel_values=None):
            return self.output

    found = collect(Headless((torch.zeros(3, 3), "more")), rows, collator)
    assert found["nll_sum"].to_pylist() == pytest.approx([math.log(3)] * 3)
    for output in ({"last_hidden_state": torch.zeros(3, 2)}, (None, torch.zeros(3)), (), None):
        with pytest.raises(ValueError, match="`model` .Headless. returned no `logits`: load it with its task head"):
            collect(Headless(output), rows, collator)


@pytest.mark.parametrize("said, told", [
    ({"cost": "3"}, "`cost` is '3': expected a dict with steps, row_passes, seconds"),
    ({"cost": {"unlearned": 3}}, "`cost` is {'unlearned': 3}: expected a dict"),
    ({"stop_reason": 5}, "`stop_reason` is 5: expected a text"),
    ({"guarantee": "sure"}, "`guarantee` is 'sure': expected exact, approximate, not_forgotten"),
    ({"history": {"unlearned": "x"}}, "`history` must be a `trainer.state.log_history`"),
    ({"history": ["x"]}, "`history` must be a `trainer.state.log_history`"),
    ({"task": None}, "`task` is None: expected a name"),
    ({"relearning": {"steps": 2}}, "`relearning` is an option of the attack 'relearn'; `attacks=['relearn']` runs it"),
    ({"generate_rows": 2}, "`generate_rows` is an option of the attack 'generate'; `attacks=['generate']` runs it"),
])  # fmt: skip
def test_what_is_told_of_a_run_has_its_kind_and_options_their_attack(said, told):
    with pytest.raises(ValueError) as caught:
        evaluate(llama(), {"forget": [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}]}, **said)
    assert told in str(caught.value)
