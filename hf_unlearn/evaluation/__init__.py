"""Measure any model: one teacher-forced pass per split into a table of per-row statistics, every measure from it.

[`collect`] is what touches a model. What it returns, an Arrow table with one line per row, is all that the measures
need, so a table can be saved, compared years later, and measured again in another way without the model. Text, images
and sound share this code; they differ in the one shape rule of [`~hf_unlearn.objectives.per_row_nll`].

```python
card = evaluate({"original": model, "unlearned": new_model}, splits, reference=retrained_model, processing_class=tok)
card.save("out")  # scorecard.json, rows.parquet, history.json
card.to_html("out/report.html")
```
"""

from ..utils.lazy import lazily

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
    "attack_names": "attacks.registry",
    "register": "attacks.registry",
    "generate": "attacks.generate",
    "rouge_recall": "attacks.generate",
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
