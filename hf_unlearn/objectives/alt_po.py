"""Preference of an alternate answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .dpo import Dpo


@dataclass(frozen=True)
class AltPo(Dpo):
    """
    Preference of an alternate answer ([`~hf_unlearn.objectives.dpo.Dpo`]), which each forget row brings in a column:
    plausible, and not true. `recipes/tools/alternates.py` lets the model itself write them.
    """

    name: ClassVar[str] = "alt_po"
    citation: ClassVar[str] = (
        "Mekala et al. 2024, Alternate Preference Optimization for Unlearning Factual Knowledge in LLMs"
    )
    alternates: ClassVar[str] = "column"
    alternate_column: str = field(
        default="alternate", metadata={"help": "Column of the forget rows with an alternate answer as text."}
    )
