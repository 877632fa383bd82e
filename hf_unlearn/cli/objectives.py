"""
What a request can minimise: every objective with its formula, its source, what it needs, what bounds it and its cost.

usage: hf-unlearn objectives [NAME …]

With names, these alone, with their options. `hf-unlearn unlearn --objective NAME` uses one. In the formulas L_f and L_r
are the mean losses of a step's forget and retain rows, n and p a label's loss and probability, S a row's summed loss, z
logits, q the model before the request, R the retain term (`--retain_term nll|kl|none`) and sg what has no gradient.
"""

from __future__ import annotations

import difflib
import sys
import textwrap

from ..objectives.base import BOTH, KINDS, Objective
from ..objectives.registry import OBJECTIVES, option_fields

WIDTH = 100
NEEDED = {
    "loss": "each forget row's loss before the request (measured, or a column `reference_nll`)",
    "logits": "the distribution before the request, in a table on the disk",
    "hidden_states": "one layer's output before the request, in a table on the disk",
}
BESIDE = {"refusal": "a refusal beside each row, and the tokenizer", "column": "another answer in a column of the rows"}


def main(argv: list[str]) -> int:
    """Prints the list; returns the exit status."""
    if {"-h", "--help", "help"} & set(argv):
        sys.stdout.write((__doc__ or "").strip() + "\n")
        return 0
    if unknown := [name for name in argv if name not in OBJECTIVES]:
        close = difflib.get_close_matches(unknown[0], OBJECTIVES, 1)
        hint = f" Did you mean {close[0]!r}?" if close else f" There are {', '.join(OBJECTIVES)}."
        sys.stderr.write(f"hf-unlearn objectives: there is no objective {unknown[0]!r}.{hint}\n")
        return 2
    sys.stdout.write("\n".join(described(name, bool(argv)) for name in argv or OBJECTIVES))
    return 0


def described(name: str, with_options: bool) -> str:
    """An objective in a few lines."""
    cls = OBJECTIVES[name]
    own = cls()
    lines = {
        "loss": cls.formula,
        "source": cls.citation,
        "needs": needs_of(own),
        "bound by": cls.bound,
        "cost": cost_of(own),
        "for": "every model" if cls.kinds == KINDS else " and ".join(f"{kind}s" for kind in cls.kinds),
    }
    text = [name, *(_line(f"  {word:<9}", said) for word, said in lines.items())]
    if with_options:
        text += [_line(f"  --{f.name} {f.default!s}  ", f.metadata["help"]) for f in option_fields(cls)]
    return "\n".join(text) + "\n"


def needs_of(own: Objective) -> str:
    """What the rows or the model must bring, in words."""
    kinds = dict.fromkeys((own.reference, own.retain_reference))
    found = [NEEDED[kind] for kind in kinds if kind in NEEDED]
    found += [BESIDE[own.alternates]] if own.alternates in BESIDE else []
    return "; ".join(found) or "nothing but the rows"


def cost_of(own: Objective) -> str:
    """Row passes (forward and backward of one row) of a step for each of its forget rows."""
    if own.edits:
        return "no steps: forward and backward of each forget and retain row, once"
    part = " of the layers up to that one" if own.needs == "hidden_states" else ""
    sides = "forget and retain row" if own.side == BOTH else "by turns" if own.moving else f"{own.side} row alone"
    beside = ", and the other answer" if own.alternates != "none" else ""
    passes = "row pass" if own.row_passes == 1 else "row passes"
    return f"{own.row_passes:g} {passes} a forget row and step ({sides}{beside}){part}"


def _line(head: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * 11)
