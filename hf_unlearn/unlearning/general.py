"""
General ability: text that no row of the request stands for, and by how much the model may get worse at it.

A request that moves a language model moves all that it can do, and rows of one kind do not show it: their loss may be
back where it was while the model has unlearned its English. So some general texts come beside the retain rows of each
step, and others, which no step sees, have a budget of their own. Where nobody brings such texts the model writes them
itself before the first step. What is kept is not the texts but what q, the model before the request, says there: the
term is the mean of KL(q ‖ p) over their labels,

    Σ_{v ∈ top} q(v)·log(q(v)/p(v)) + q(rest)·log(q(rest)/p(rest))                                            (8)

with the [`TOP`] likeliest words of q one by one and all others as one: a few numbers a label, and no second model. (The
likelihood of the texts themselves is learned by heart within tens of steps, and other texts pay for it.)

Differs from the paper: it keeps the retain rows only; all of this is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TOP = 64  # words of q at a label that are told apart
TEXTS = 64  # that the model writes
TOKENS = 48  # of each, at most
FEWEST = 16  # texts left, or the model has nothing to say beside its rows
SAME = 6  # tokens in a row that a text may not share with a row of the request
GUESSING = 0.8  # of the log of the vocabulary: a model whose own words are as unlikely as that has learned nothing
BUDGET = 0.05  # nats by which the mean loss of texts that are only measured may rise
OWN_BUDGET = 0.5  # the same of the model's own words: q is the best model of what q says, so that their loss rises even
# where q was overfitted and public texts get likelier; it stops gross damage alone (recipes/study/README.md)
SHARE = 0.5  # general rows of a step, as a share of its forget rows
MOST_ROWS = 512  # rows of a set that is given, at most
MOST_COMPARED = 4096  # rows of the request that texts are held against, at most, beside the forget rows

STARTS = (
    "The", "In the morning", "Once upon a time", "Water is", "My favourite book", "The history of", "She said that",
    "A good way to", "Scientists have found", "To cook rice,", "The city", "When I was young,", "There are three",
    "Dear Sir or Madam,", "Breaking news:", "1.", "def", "The sum of", "It is important to", "Many people", "He opened",
    "In conclusion,", "Question:", "The weather",
)  # fmt: skip
ASKS = (
    "Tell me something interesting about the sea.", "Write a short poem about autumn.", "How do I boil an egg?",
    "What should I pack for a weekend in the mountains?", "Explain what a computer program is.", "Give me a riddle.",
    "Why is sleep important?", "Write an e-mail that thanks a colleague for help.", "How does a bicycle stay upright?",
    "Name some kinds of fruit.", "What is the difference between weather and climate?", "Tell me a short story.",
    "How can I learn a new language?", "What do plants need to grow?", "Give three tips for saving money.",
    "Describe a typical day at school.", "What is a good name for a cat?", "How do I write a letter of complaint?",
    "Explain fractions to a child.", "What can one do on a rainy day?", "Suggest a simple dinner.", "What is music?",
    "How do I change a flat tyre?", "Summarise why people travel.",
)  # fmt: skip


def held_out(n: int) -> list[bool]:
    """Which of n texts are only measured: every other one."""
    return [i % 2 == 1 for i in range(n)]


def rows_of_step(step: int, rows: int, n: int) -> list[int]:
    """Places of the general rows of a step, 0 … n - 1: they go round, each once before any comes again."""
    first = step * rows
    return [(first + k) % n for k in range(min(rows, n))]


def runs(tokens: Sequence[int]) -> set[tuple[int, ...]]:
    """All runs of [`SAME`] tokens."""
    return {tuple(tokens[i : i + SAME]) for i in range(len(tokens) - SAME + 1)}


def says_rows(tokens: Sequence[int], known: set[tuple[int, ...]]) -> bool:
    """Whether a text shares a run of tokens with rows, whose runs are `known`."""
    return not known.isdisjoint(runs(tokens))


def all_runs(texts: Iterable[Sequence[int]]) -> set[tuple[int, ...]]:
    """The runs of several texts."""
    return set().union(*map(runs, texts))


def top_of(logits: Tensor) -> tuple[Tensor, Tensor]:
    """`(words, log-probabilities)` of the likeliest words, (n, k) each, k at most [`TOP`], from logits (n, V)."""
    logs, words = _log_softmax(logits).topk(min(TOP, logits.shape[-1]), dim=-1)
    return words, logs


def divergence(logits: Tensor, words: Tensor, logs: Tensor) -> Tensor:
    """
    KL(q ‖ p) at each label, (n,), nats: (8).

    Args:
        logits: of p, (n, V).
        words, logs: of q, as [`top_of`] gives them.
    """
    own = _log_softmax(logits).gather(-1, words)
    found = (logs.exp() * (logs - own)).sum(-1)
    if words.shape[-1] == logits.shape[-1]:
        return found
    rest, own_rest = _log_of_rest(logs), _log_of_rest(own)
    return found + rest.exp() * (rest - own_rest)


def _log_softmax(logits: Tensor) -> Tensor:
    """Over the last dimension, at least in single precision."""
    return (logits.float() if logits.element_size() < 4 else logits).log_softmax(-1)


def _log_of_rest(logs: Tensor) -> Tensor:
    """log(1 - Σ exp(logs)) over the last dimension, at least log(1e-6)."""
    return (1 - logs.exp().sum(-1)).clamp_min(1e-6).log()
