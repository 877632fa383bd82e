"""`benchmark.py --only rows`: a line for each deed, of CPU seconds and bytes; the figures themselves are not tested."""

from __future__ import annotations

import json

import pytest

from recipes.tools import benchmark
from recipes.tools.bench import rows


@pytest.mark.parametrize("deed", ["split", "split_text"])
def test_a_deed_is_measured_in_cpu_seconds_and_bytes(deed):
    found = rows.measured(deed, 400, 16)
    assert 0 < found["seconds"] < 60 and found["bytes"] >= 0


@pytest.mark.slow
def test_all_deeds_are_measured_and_compared_with_what_they_may_cost(capsys):
    benchmark.main(["--only", "rows", "--rows", "400", "--length", "16", "--json"])
    lines = json.loads(capsys.readouterr().out)["figures"]
    assert [line["key"] for line in lines] == [f"rows_{deed}" for deed in rows.DEEDS]
    assert all(line["seconds_a_million"] > 0 for line in lines)
    text = rows.table(lines)
    assert len(text.splitlines()) == len(rows.DEEDS) + 1 and "≤ 25" in text


def test_the_figures_of_rows_stand_alone(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--only", "rows", "unlearn_open"])
    assert "stands alone" in capsys.readouterr().err
