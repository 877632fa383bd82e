"""Classifiers whose rows have several labels, each there or not (sigmoid), through both trainers and the evaluation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value
from helpers.tiny import QUIET, bert, image_rows, lm, text_class_rows, tokenizer, vit

from hf_unlearn import ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer, default_collator, evaluate, per_row_nll
from hf_unlearn.trainers.models import chance_loss

MULTI = "multi_label_classification"


def several(rows, seed: int = 0) -> Dataset:
    """Rows with three labels, each there or not."""
    drawn = (np.random.default_rng(seed).random((len(rows), 3)) < 0.4).astype(np.float32).tolist()
    kept = rows.remove_columns([name for name in ("labels", "label") if name in rows.column_names])
    return kept.add_column("labels", drawn, feature=List(Value("float32"), length=3))


def text_rows(n: int, start: int = 0) -> Dataset:
    return several(text_class_rows(n, start), start)


def of_several(model):
    model.config.problem_type = MULTI
    return model


@pytest.mark.parametrize("make, rows, processing", [
    (bert, text_rows, tokenizer), (vit, lambda n, start=0: several(image_rows(n, start), start), lambda: None)
], ids=["text", "images"])  # fmt: skip
def test_training_loss_and_row_losses_are_the_models_own(make, rows, processing):
    model, own = of_several(make()).eval(), rows(5)
    batch = default_collator(model, processing())([own[i] for i in range(5)])
    assert batch["labels"].dtype == torch.float32 and batch["labels"].shape == (5, 3)
    output = model(**batch)
    nll, items = per_row_nll(output.logits, batch["labels"])
    assert items.tolist() == [3] * 5
    torch.testing.assert_close(nll.sum() / items.sum(), output.loss)


@pytest.mark.slow
@pytest.mark.parametrize("readiness", ["meta", "replay", "none"])
def test_a_model_of_several_labels_is_trained_ready_unlearned_and_measured(tmp_path, readiness):
    args = ReadyConfig(str(tmp_path / "ready"), readiness=readiness, num_train_epochs=2, learning_rate=1e-3,
                       per_device_train_batch_size=4, **QUIET)  # fmt: skip
    rows = text_rows(24)
    ready = ReadyTrainer(bert(), args, rows, processing_class=tokenizer())
    assert ready.model.config.problem_type == MULTI  # the rows say so; the config said nothing
    assert chance_loss(ready.model) == math.log(2)
    ready.train()
    ready.save_model()
    flags = np.array(rows["revocable"])
    sets = {
        "forget": rows.select(np.flatnonzero(flags)).remove_columns("revocable"),
        "retain": rows.select(np.flatnonzero(~flags)).remove_columns("revocable"),
        "unseen": text_rows(8, 100).remove_columns("revocable"),
    }
    args = UnlearnConfig(
        str(tmp_path / "gone"), max_steps=2, learning_rate=1e-3, per_device_train_batch_size=4, **QUIET
    )
    given = {f"{name}_dataset": own for name, own in sets.items()}
    run = UnlearnTrainer(str(tmp_path / "ready"), args, **given, processing_class=tokenizer())
    metrics = run.train().metrics
    assert metrics["guarantee"] == ("exact" if readiness == "replay" else metrics["guarantee"])
    run.save_model()

    card = evaluate({"ready": ready.model, "ready_unlearned": run.model}, sets, processing_class=tokenizer(),
                    attacks=["relearn", "quantise"], attack_options={"relearn": {"steps": 2}})  # fmt: skip
    found = card["ready_unlearned"].measures
    batch = default_collator(run.model, tokenizer())([sets["retain"][i] for i in range(len(sets["retain"]))])
    with torch.no_grad():
        said = run.model.eval()(**batch).logits > 0
    right = said.eq(batch["labels"] > 0)
    assert found["retain_accuracy"]["value"] == pytest.approx(right.all(1).float().mean().item())
    assert found["retain_label_accuracy"]["value"] == pytest.approx(right.float().mean().item())
    hits = (said & (batch["labels"] > 0)).sum().item()
    assert found["retain_f1"]["value"] == pytest.approx(2 * hits / (said.sum().item() + batch["labels"].sum().item()))
    by_label = card["ready_unlearned"].details["classes"]["retain"]
    assert [one["n"] for one in by_label] == batch["labels"].sum(0).tolist()
    assert "forget_mia_loss_auc" in found and "forget_int8_accuracy" in found
    card.to_html(tmp_path / "report.html")
    assert "F1 of the labels" in (tmp_path / "report.html").read_text()


def cast(rows, kind):
    return rows.cast(Features({**rows.features, "labels": List(Value(kind))}))


@pytest.mark.parametrize("change, words", [
    (lambda rows, model: (cast(rows, "int64"), model), "cast_column('labels', List(Value('float32')))"),
    (lambda rows, model: (rows.map(lambda row: {"labels": row["labels"][:2]}, features=cast(rows, "float32").features),
                          model), "another number of labels in `labels` than the model's 3 such as 2"),
    (lambda rows, model: (rows.map(lambda row: {"labels": [x / 2 for x in row["labels"]]}), model),
     "values in `labels` other than 0 and 1 such as 0.5"),
    (lambda rows, model: (text_class_rows(8), model), "a list with 0.0 or 1.0 for each of the model's labels"),
], ids=["whole", "too few", "shares", "one class"])  # fmt: skip
def test_rows_that_are_not_of_several_labels_are_refused(tmp_path, change, words):
    rows, model = change(text_rows(8), of_several(bert()))
    with pytest.raises(ValueError) as told:
        ReadyTrainer(model, ReadyConfig(str(tmp_path), **QUIET), rows, processing_class=tokenizer())
    assert words in str(told.value)


def test_a_model_of_one_class_a_row_does_not_take_several_labels(tmp_path):
    model = bert()
    model.config.problem_type = "single_label_classification"
    with pytest.raises(ValueError, match="loaded with `problem_type='multi_label_classification'`"):
        ReadyTrainer(model, ReadyConfig(str(tmp_path), **QUIET), text_rows(8), processing_class=tokenizer())


def test_token_rows_of_a_language_model_stay_token_rows():
    rows = [{"input_ids": [1, 5, 6], "labels": [-100, 5, 6]}, {"input_ids": [1, 5], "labels": [1, 5]}]
    assert default_collator(lm(), tokenizer())(rows)["labels"].tolist() == [[-100, 5, 6], [1, 5, -100]]
