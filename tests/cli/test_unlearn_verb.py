"""How the verb `unlearn` ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hf_unlearn.cli import running, unlearn
from hf_unlearn.cli.arguments import DataArguments, ModelArguments, UnlearnArguments
from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.trainers.unlearn_looks import UnlearnLooks
from hf_unlearn.unlearning.ending import Ending


@pytest.mark.parametrize("unlearned", [True, False])
def test_a_request_that_forgot_nothing_exits_4_and_says_so(unlearned, capsys):
    trainer = SimpleNamespace(
        is_world_process_zero=lambda: True,
        replays=False,
        drops=False,
        state=SimpleNamespace(global_step=7),
        stop_reason="retain_budget_spent",
        args=SimpleNamespace(output_dir="out"),
        unlearned=unlearned,
        ending=Ending(3.6, 3.7, 0.03, 0.05, 0.12, 0.1, 0.6, 0.1),
        objective=get_objective("nabla_tau"),
    )
    trainer.looks = SimpleNamespace(told=lambda: UnlearnLooks.told(SimpleNamespace(trainer=trainer)))
    status = 0
    try:
        running.run(lambda argv: unlearn.told(trainer), [])
    except SystemExit as end:
        status = end.code
    assert status == (0 if unlearned else 4)
    said = capsys.readouterr().out
    assert ("Nothing was forgotten" in said) == (not unlearned)
    assert ("3.6 nats, of 3.7" in said) == unlearned


@pytest.mark.parametrize(
    ("guarantee", "said"),
    [("exact", "exact"), ("approximate", "approximate until `hf-unlearn verify` has passed")],
)
def test_a_replay_says_what_was_run_again_without_how_many_rows_and_what_that_guarantees(guarantee, said, capsys):
    trainer = SimpleNamespace(
        is_world_process_zero=lambda: True,
        replays=True,
        first_step=238,
        plan=SimpleNamespace(order=SimpleNamespace(steps=364)),
        state=SimpleNamespace(global_step=364),
        asked=SimpleNamespace(asked=list(range(48))),
        guarantee=guarantee,
        args=SimpleNamespace(output_dir="out"),
        unlearned=True,
    )
    assert unlearn.told(trainer) == 0
    told = "replayed 126 of 364 steps (from step 238) without 48 rows"
    assert capsys.readouterr().out == f"{told}; {said}; saved in out\n"


@pytest.mark.parametrize(
    ("variant", "what", "again"),
    [
        ("own", "tables", "filled 1 table anew from the rest of their rows; exact"),
        ("shared", "entries", "trained those of 1 source anew on the rest of their rows; approximate"),
    ],
)
def test_a_drop_says_whose_tables_went_and_how_long_that_took(capsys, variant, what, again):
    trainer = SimpleNamespace(
        store=SimpleNamespace(config=SimpleNamespace(variant=variant)),
        is_world_process_zero=lambda: True,
        replays=False,
        drops=True,
        outcome=lambda: {"dropped_sources": 2, "retrained_sources": 1, "drop_seconds": 0.0012},
        asked=SimpleNamespace(asked=list(range(9))),
        guarantee=again.rpartition(" ")[2],
        args=SimpleNamespace(output_dir="out"),
        unlearned=True,
    )
    assert unlearn.told(trainer) == 0
    said = f"dropped the {what} of 2 sources (9 rows asked for) in 1.2 ms"
    assert capsys.readouterr().out == f"{said}, {again}; saved in out\n"


def test_all_processes_write_into_the_folder_that_the_first_one_chose(monkeypatch):
    """The hub may answer one process and not the other."""
    from hf_unlearn.trainers import engines, records

    monkeypatch.setattr(records, "find_readiness", lambda source: {"ready": False})
    monkeypatch.setattr(engines, "PartialState", lambda: SimpleNamespace(num_processes=2, is_main_process=False))
    monkeypatch.setattr(engines, "broadcast_object_list", lambda found: found.__setitem__(0, "ready"))
    monkeypatch.setattr(unlearn, "named_model", lambda model_args: "someone/model")
    assert unlearn.role_of("someone/model", SimpleNamespace(start="ready"), None) == "ready_unlearned"


def test_a_hub_that_does_not_answer_leaves_a_named_model_without_a_record(monkeypatch):
    from hf_unlearn.trainers import records

    def silent(source):
        raise records.NoAnswer("the hub does not answer")

    monkeypatch.setattr(records, "find_readiness", silent)
    named = SimpleNamespace(model_name_or_path="someone/model")
    monkeypatch.setattr(unlearn, "named_model", lambda model_args: model_args.model_name_or_path)
    assert unlearn.role_of("someone/model", SimpleNamespace(start="ready"), named) == unlearn.STARTS["original"]


def test_a_model_that_is_named_is_told_under_the_flag_that_names_it(monkeypatch):
    asked = []
    monkeypatch.setattr(unlearn.checkpoints, "check_checkpoint", lambda *told: asked.append(told[2:4]) or 1 / 0)
    args, rows = SimpleNamespace(output_dir="out"), SimpleNamespace(labels=None)
    for named, start in ((None, "original"), ("org/m", "ready")):
        chosen = ModelArguments(model_name_or_path=named)
        chosen.given = {"model_name_or_path": SimpleNamespace(alone=True)} if named else {}
        with pytest.raises(ZeroDivisionError):
            unlearn.unlearn(UnlearnArguments(start=start), DataArguments(), chosen, args, rows)
    assert asked == [("original", "out/original"), ("model_name_or_path", "org/m")]


def test_a_model_that_no_verb_has_trained_is_refused_where_ready_has_trained_one(tmp_path):
    base, out = tmp_path / "base", tmp_path / "out"
    for folder in (base, out / "original"):
        folder.mkdir(parents=True)
    assert unlearn.untrained_problems(str(base), out) == []  # nothing else that could have been meant
    (out / "original" / "readiness.json").write_text('{"schema": 1, "ready": false}')
    (problem,) = unlearn.untrained_problems(str(base), out)
    assert str(problem).startswith(f"`model_name_or_path` names '{base}' as the model to take the rows out of")
    assert "Leave it out, and say --start original" in problem
    for name in ("readiness.json", "unlearning.json"):
        (base / name).write_text('{"schema": 0}')  # of another version: a record all the same
        assert unlearn.untrained_problems(str(base), out) == []
        (base / name).unlink()


def test_the_model_that_a_training_starts_from_is_not_the_one_to_take_rows_out_of(tmp_path):
    words = ["--config", "recipes/text/tofu_smollm2_lora.yaml", "--output_dir", str(tmp_path)]
    for flags, source in (([], str(tmp_path / "ready")), (["--model_name_or_path", "base"], "base")):
        own, _, model_args, _ = unlearn.parsing.parse("unlearn", [*words, *flags])
        assert unlearn.source_of(own, model_args, tmp_path) == source
