"""Preference of a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..utils.checks import path
from .dpo import Dpo


@dataclass(frozen=True)
class IdkDpo(Dpo):
    """
    Preference of a refusal ([`~hf_unlearn.objectives.dpo.Dpo`]): "I don't know." and its like beside each forget row, a
    fixed one for a row by the run's seed.
    """

    name: ClassVar[str] = "idk_dpo"
    citation: ClassVar[str] = (
        "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs (preference optimisation)"
    )
    alternates: ClassVar[str] = "refusal"
    refusals: str = field(
        default="",
        metadata={
            "help": "Text file with a refusal a line, e.g. in the language of the rows; left out: some in English that "
            "come with the package.",
            "check": path,
        },
    )
