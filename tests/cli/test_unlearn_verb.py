"""How the verb `unlearn` ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hf_unlearn.cli import running, unlearn


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
