"""
What a result says of its deletion.

Exact: the weights are those of the same training program run without the rows. Approximate: steps on a loss, measured.
Not forgotten: the run ended before it had unlearned.
"""

EXACT, APPROXIMATE, NOT_FORGOTTEN = "exact", "approximate", "not_forgotten"
GUARANTEES = (EXACT, APPROXIMATE, NOT_FORGOTTEN)
GUARANTEE = "guarantee"  # their key in records and metrics
