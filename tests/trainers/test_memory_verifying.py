"""What a request to a memory costs, and whether its tables are what their sources' rows give."""

from __future__ import annotations

import pytest
from helpers import memory_runs, tiny

from hf_unlearn import ArgumentError, plan, verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tiny.lm(layers=2).save_pretrained(folder / "base")
    return memory_runs.trained(folder / "ready", model=str(folder / "base"), memory=memory_runs.config())


def args(out):
    from transformers import TrainingArguments

    return TrainingArguments(str(out), use_cpu=True, report_to=[], disable_tqdm=True)


def test_a_plan_says_that_whole_sources_cost_nothing_and_parts_the_rest_of_their_rows(whole):
    data = memory_runs.rows()
    options = plan(whole.args.output_dir, [row["id"] for row in data if row["author"] == "author 1"])
    assert [(o.way, o.guarantee, o.row_passes) for o in options][0] == ("drop the table", "exact", 0)
    assert options[1].way == "retrain" and options[1].share_of_retraining == 1 and options[1].row_passes > 0
    part = plan(whole.args.output_dir, [1])
    assert part.best().row_passes == round(2 * (2 + 1 / 3))  # two rows are left, two epochs and a look before
    assert "filled anew from 2 rows" in str(part)
    with pytest.raises(ArgumentError, match="of no source in the memory"):
        plan(whole.args.output_dir, ["nobody's"])


def test_tables_that_their_rows_give_pass_and_one_that_was_changed_does_not(tmp_path, whole):
    data = memory_runs.rows()
    folder, tokenizer = whole.args.output_dir, {"processing_class": tiny.tokenizer()}
    found = verify(folder, data.shuffle(seed=2), args=args(tmp_path), **tokenizer)
    assert found.passed and "PASS" in str(found)
    on_base = verify(folder, data, model=tiny_base(whole), args=args(tmp_path), **tokenizer)
    assert on_base.passed
    other = [{**row, "input_ids": row["input_ids"][::-1]} if row["id"] == 2 else row for row in data]
    found = verify(folder, other, args=args(tmp_path), **tokenizer)
    assert not found.passed and "other than what its rows give" in str(found)
    with pytest.raises(ArgumentError, match="are not in `retain_dataset`"):
        verify(folder, data.select(range(4)), args=args(tmp_path), **tokenizer)


@pytest.mark.parametrize(
    "options", [{"optim": "rmsprop", "optim_args": "alpha=0.5"}, {"neftune_noise_alpha": 5.0}, {"bf16": True}]
)
def test_all_that_a_table_depends_on_is_in_the_record(tmp_path, whole, options):
    memory_runs.trained(tmp_path / "own", model=tiny_base(whole), memory=memory_runs.config(), **options)
    found = verify(str(tmp_path / "own"), memory_runs.rows(), args=args(tmp_path), processing_class=tiny.tokenizer())
    assert found.passed


def tiny_base(whole):
    return whole.model.peft_config["default"].base_model_name_or_path
