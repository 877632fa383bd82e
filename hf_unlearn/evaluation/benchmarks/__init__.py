"""
Published benchmarks by one's own files or by hub names: what a language model still says, knows and gives away.

`evaluate(models, benchmarks={"muse": "path/to/muse", "wmdp": "wmdp-bio.json"})` measures them beside or instead of
splits; the results are measures of the score card and a section of the report. Each part is a function of its own, too:

```python
from hf_unlearn.evaluation.benchmarks import multiple_choice, read_choices

for questions in read_choices("wmdp", "wmdp-bio.json"):
    found = multiple_choice(model, questions, tokenizer)
    print(questions.subset, sum(found["right"].to_pylist()) / found.num_rows)
```

To add a benchmark, write a file with a `Benchmark` here, name it in registry.py, and give its measures lines in
`evaluation/benchmark_measures.py`; flags of its options, checks, card and report follow from these. TOFU's own logs are
read by `hf-unlearn tofu`.
"""

from typing import TYPE_CHECKING

from ...utils.lazy import lazily

if TYPE_CHECKING:  # the same names as in _HOMES, for editors and type checkers
    from .base import Benchmark as Benchmark
    from .base import Results as Results
    from .choices import multiple_choice as multiple_choice
    from .choices import read_choices as read_choices
    from .muse import knowledge as knowledge
    from .muse import read_muse as read_muse
    from .muse import text_losses as text_losses
    from .muse import verbatim as verbatim
    from .registry import benchmark_names as benchmark_names

_HOMES = {
    "Benchmark": "base",
    "Results": "base",
    "multiple_choice": "choices",
    "read_choices": "choices",
    "knowledge": "muse",
    "read_muse": "muse",
    "text_losses": "muse",
    "verbatim": "muse",
    "benchmark_names": "registry",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazily(__name__, _HOMES)
