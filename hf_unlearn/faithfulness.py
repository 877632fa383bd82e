"""What a study of planted rows found of the measures themselves."""

from __future__ import annotations

# Measures, without the split `forget_` in their names, with an AUC below .9 at telling models that saw the forget rows
# in a few passes from models that never did. Found by `python recipes/faithfulness.py`, kept in
# recipes/results/faithfulness.json; a test holds the two together.
WEAK_MEASURES: frozenset[str] = frozenset()
