"""Measure any model: one teacher-forced pass per split into a table of per-row statistics, every measure from it.

[`collect`] is what touches a model. What it returns, an Arrow table with one line per row, is all that the measures
need, so a table can be saved, compared years later, and measured again in another way without the model. Text, images
and sound share this code; they differ in the one shape rule of [`~hf_unlearn.objectives.row_nll.per_row_nll`].

The way of the numbers, a file a step:

    scoring          `evaluate`: checks its arguments, goes this way, returns the score card
    observation      one model: a pass over each split, then the attacks
    collection       that pass: batches in, statistics of each row out (row_statistics, forward)
    tables           what a row table holds (table_checks: what may stand side by side; table_files: on disk)
    attacks/         a file each: run, options, measures, gate, attempt
    benchmarks/      MUSE, WMDP, MMLU by one's own files, a file each (benchmarking: read, run and measured here)
    measuring        row tables -> measures, by the lines of catalogue.py (words: vocabulary.py), the formulas in
                     measures/ and the bootstrap of intervals.py
    model_scores     the measures of one model; scorecard: those of all (scorecard_files: on disk)
    run_measures     reads numbers out of a saved run for the judgement
    gates            what a gate is, and all limits; gate_rules: those of the verdict, general ability, and of attacks
    judge            the judgement: gates, verdict, forgotten (what was), attacker (what one could still do), probing
                     (general questions before and after)
    weights          hashes, copies and restores weights; merged_weights adds adapters to them
    roles, rows      names of models; hashes and choice of rows

```python
card = evaluate({"original": model, "unlearned": new_model}, splits, reference=retrained_model, processing_class=tok)
card.save("out")  # scorecard.json, rows.parquet, history.json
card.to_html("out/report.html")
```
"""

from typing import TYPE_CHECKING

from ..utils.lazy import lazily

if TYPE_CHECKING:  # the same names as in _HOMES, for editors and type checkers
    from .attacks.base import Attack as Attack
    from .attacks.base import Attempt as Attempt
    from .attacks.base import AttemptRule as AttemptRule
    from .attacks.generate import generate as generate
    from .attacks.quantise import quantised as quantised
    from .attacks.registry import attack_names as attack_names
    from .attacks.relearn import recovery_area as recovery_area
    from .attacks.relearn import recovery_curves as recovery_curves
    from .attacks.relearn import relearn as relearn
    from .attacks.weights import weight_distance as weight_distance
    from .catalogue import Measure as Measure
    from .collection import collect as collect
    from .forward import evaluating as evaluating
    from .gates import Gate as Gate
    from .gates import GateRule as GateRule
    from .gates import Status as Status
    from .measures.forget_quality import forget_quality_of as forget_quality_of
    from .measures.forget_quality import ks_detectable as ks_detectable
    from .measures.lira import lira_measures as lira_measures
    from .measures.lira import logit_confidence as logit_confidence
    from .measures.lira import shadow_plan as shadow_plan
    from .measures.membership import compare_membership as compare_membership
    from .measures.membership import membership_inference as membership_inference
    from .measures.membership import scores as scores
    from .measures.rouge import rouge_recall as rouge_recall
    from .measures.tofu_logs import forget_quality as forget_quality
    from .measures.tofu_logs import model_utility as model_utility
    from .measures.truth_ratio import answer_probability as answer_probability
    from .measures.truth_ratio import truth_ratio as truth_ratio
    from .measures.truth_ratio import truth_ratio_score as truth_ratio_score
    from .measures.utility import utility_of as utility_of
    from .measuring import compare as compare
    from .measuring import measure as measure
    from .measuring import measure_names as measure_names
    from .model_scores import ModelScores as ModelScores
    from .registering import register as register
    from .rows import evenly as evenly
    from .scorecard import Scorecard as Scorecard
    from .scoring import evaluate as evaluate
    from .table_files import load_tables as load_tables
    from .table_files import save_tables as save_tables
    from .tables import COLUMNS as COLUMNS
    from .tables import described as described
    from .tables import with_description as with_description
    from .weights import weights_hash as weights_hash

_HOMES = {
    "evaluate": "scoring",
    "Scorecard": "scorecard",
    "ModelScores": "model_scores",
    "collect": "collection",
    "evaluating": "forward",
    "measure": "measuring",
    "measure_names": "measuring",
    "compare": "measuring",
    "COLUMNS": "tables",
    "described": "tables",
    "with_description": "tables",
    "save_tables": "table_files",
    "load_tables": "table_files",
    "evenly": "rows",
    "Measure": "catalogue",
    "Attack": "attacks.base",
    "Attempt": "attacks.base",
    "AttemptRule": "attacks.base",
    "Gate": "gates",
    "GateRule": "gates",
    "Status": "gates",
    "attack_names": "attacks.registry",
    "register": "registering",
    "generate": "attacks.generate",
    "rouge_recall": "measures.rouge",
    "quantised": "attacks.quantise",
    "relearn": "attacks.relearn",
    "recovery_area": "attacks.relearn",
    "recovery_curves": "attacks.relearn",
    "weight_distance": "attacks.weights",
    "weights_hash": "weights",
    "scores": "measures.membership",
    "membership_inference": "measures.membership",
    "compare_membership": "measures.membership",
    "lira_measures": "measures.lira",
    "logit_confidence": "measures.lira",
    "shadow_plan": "measures.lira",
    "truth_ratio": "measures.truth_ratio",
    "truth_ratio_score": "measures.truth_ratio",
    "answer_probability": "measures.truth_ratio",
    "forget_quality_of": "measures.forget_quality",
    "ks_detectable": "measures.forget_quality",
    "utility_of": "measures.utility",
    "model_utility": "measures.tofu_logs",
    "forget_quality": "measures.tofu_logs",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazily(__name__, _HOMES)
