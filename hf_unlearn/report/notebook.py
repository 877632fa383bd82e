"""The score table as a notebook shows it: a small HTML fragment without style sheet or script."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .tables import score_table


def notebook_html(card: Mapping[str, Any]) -> str:
    """A heading for each task, and a section that can be opened for each group of measures; the first one is open."""
    parts = []
    for task in dict.fromkeys(run["task"] for run in card["runs"]):
        table = score_table(card, task)
        head = "".join(f"<th title='{escape(role['meaning'])}'>{escape(role['label'])}</th>" for role in table["roles"])
        parts.append(f"<h4>{escape(task)}</h4>")
        for i, group in enumerate(table["groups"]):
            rows = "".join(_row(row) for row in group["rows"])
            count = f" ({group['n']})" if group["n"] else ""
            parts.append(
                f"<details{'' if i else ' open'}><summary>{escape(group['title'])}{count}</summary>"
                f"<table><thead><tr><th></th>{head}<th>ideal</th></tr></thead><tbody>{rows}</tbody></table></details>"
            )
    return "".join(parts) or "<p>Scorecard without runs</p>"


def _row(row: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<td title='{escape(cell['interval'])}'>{escape(cell['value'])}</td>" if cell else "<td></td>"
        for cell in row["cells"]
    )
    weak = " (weak)" if row["weak"] else ""
    label = f"<th title='{escape(row['explanation'])}'>{escape(row['label'])}{weak}</th>"
    return f"<tr>{label}{cells}<td>{escape(row['ideal'])}</td></tr>"
