"""What a benchmark is: rows that it reads, what it finds of a model, and the measures that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow
    import torch

Found = dict[str, dict[str, Any]]  # measure -> {"value", "low", "high", "n"}


@dataclass(frozen=True)
class Examined:
    """
    The model that a benchmark runs on, with its tokenizer, and how; it is left as it was, bit for bit. `model_hash`: of
    its weights, if known.
    """

    model: torch.nn.Module
    tokenizer: Any
    batch_size: int = 32
    progress: Any = False
    model_hash: str | None = None


@dataclass
class Results:
    """
    What a benchmark found of one model.

    Args:
        tables: part -> a line for each row.
        generations: part -> prompts, references and answers in clear.
        parts: part -> what is said of it beside its numbers: `rows`, and `cut` (rows whose prompt or text was too long
            for the model and lost a piece).
    """

    tables: dict[str, pyarrow.Table] = field(default_factory=dict)
    generations: dict[str, pyarrow.Table] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """
    One benchmark, as [`evaluate`] and the command line know it by its name.

    Args:
        name: in `evaluate(benchmarks=...)` and `--benchmarks NAME=WHERE`; its measures and flags begin with it.
        title: what the report calls it.
        where: what WHERE may be, for `--help`.
        read: function of (WHERE, its `options`) that returns the rows, checked; called before a model is loaded.
        run: function of ([`Examined`], the rows, `options`) that returns [`Results`].
        measures: function of (results, those of the retrained model or None, `options`, seed, resamples) that returns
            measures by name. Each has a line in the catalogue.
        options: dataclass of its options, each with `help` and `flag` (the default there) in its metadata: arguments
            of `evaluate(benchmark_options={name: {…}})` and flags `--NAME_OPTION`.
    """

    name: str
    title: str
    where: str
    read: Callable[[Any, Any], Any]
    run: Callable[[Examined, Any, Any], Results]
    measures: Callable[[Results, Results | None, Any, int, int], Found]
    options: type

    def options_of(self, given: Mapping[str, Any]) -> Any:
        """
        The `options` with these values over the defaults.

        Raises:
            ValueError: for an unknown option, naming those that there are, and for values that `options` refuses.
        """
        known = [one.name for one in fields(self.options)]
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(
                f"benchmark {self.name!r} has no option {', '.join(map(repr, unknown))}: it has {', '.join(known)}."
            )
        try:
            return self.options(**given)
        except ValueError as error:
            raise ValueError(f"options of the benchmark {self.name!r}: {error}") from error
