"""How the verb `unlearn` ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hf_unlearn.cli import running, unlearn
from hf_unlearn.cli.arguments import DataArguments, ModelArguments, UnlearnArguments


@pytest.mark.parametrize("unlearned", [True, False])
def test_a_request_that_forgot_nothing_exits_4_and_says_so(unlearned, capsys):
    trainer = SimpleNamespace(
        is_world_process_zero=lambda: True,
        state=SimpleNamespace(global_step=7),
        stop_reason="retain_budget_spent",
        args=SimpleNamespace(output_dir="out"),
        unlearned=unlearned,
    )
    status = 0
    try:
        running.run(lambda argv: unlearn.told(trainer), [])
    except SystemExit as end:
        status = end.code
    assert status == (0 if unlearned else 4)
    assert ("Nothing was forgotten" in capsys.readouterr().out) == (not unlearned)


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
    monkeypatch.setattr(unlearn.checkpoints, "check_checkpoint", lambda *told: asked.append(told[2:]) or 1 / 0)
    args, rows = SimpleNamespace(output_dir="out"), SimpleNamespace(labels=None)
    for named, start in ((None, "original"), ("org/m", "ready")):
        chosen = ModelArguments(model_name_or_path=named)
        chosen.given = {"model_name_or_path": SimpleNamespace(alone=True)} if named else {}
        with pytest.raises(ZeroDivisionError):
            unlearn.unlearn(UnlearnArguments(start=start), DataArguments(), chosen, args, rows)
    assert asked == [("original", "out/original"), ("model_name_or_path", "org/m")]
