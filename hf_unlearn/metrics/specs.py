"""The metrics by name: what the catalogue says of a measure, and the inputs that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import datasets

from ..evaluation import catalogue
from ..evaluation.vocabulary import CARLINI22, TRIPPA
from .inputs import INPUTS, Inputs


@dataclass(frozen=True)
class MetricSpec:
    """One metric: description and citation from the catalogue, the rest from its [`Inputs`]."""

    description: str
    citation: str
    given: Inputs

    @property
    def function(self) -> Callable[..., Mapping[str, Any]]:
        return self.given.function

    @property
    def inputs(self) -> Mapping[str, tuple[str, str]]:
        return self.given.inputs

    @property
    def example(self) -> Mapping[str, Any]:
        return self.given.example

    def options(self) -> dict[str, Any]:
        return self.given.options()

    def features(self) -> datasets.Features | list[datasets.Features]:
        return self.given.features()

    def inputs_description(self, name: str) -> str:
        return self.given.inputs_description(name)


def specs() -> Mapping[str, MetricSpec]:
    """
    Metric by name: a line of the catalogue that names its inputs, a membership score, and `membership`, which takes any
    score.
    """
    lines = {m.metric_name: (m.explanation, m.citation, m.inputs) for m in catalogue.MEASURES if m.inputs}
    scores = {one.in_name: (one.explanation, one.citation, one.inputs) for one in catalogue.SCORES.values()}
    any_score = ("How well any score of rows tells members from others.", f"{CARLINI22}; {TRIPPA}", "scores")
    found = {**lines, "membership": any_score, **scores}
    return MappingProxyType({name: MetricSpec(what, cited, INPUTS[of]) for name, (what, cited, of) in found.items()})
