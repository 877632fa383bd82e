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

from .._lazy import lazily

_HOMES = {
    "ATTACKS": "observation",
    "evenly": "observation",
    "load_tables": "tables",
    "described": "tables",
    "with_description": "tables",
    "save_tables": "tables",
    "compare": "measures",
    "collect": "passes",
    "evaluating": "passes",
    "COLUMNS": "tables",
    "measure": "measures",
    "measure_names": "measures",
    "membership_inference": "membership",
    "compare_membership": "membership",
    "scores": "membership",
    "lira_measures": "lira",
    "logit_confidence": "lira",
    "shadow_plan": "lira",
    "ks_detectable": "statistics",
    "truth_ratio": "tofu",
    "truth_ratio_score": "tofu",
    "answer_probability": "tofu",
    "model_utility": "tofu",
    "forget_quality": "tofu",
    "forget_quality_of": "tofu",
    "utility_of": "tofu",
    "rouge_recall": "generation",
    "generate": "generation",
    "Run": "scorecard",
    "Scorecard": "scorecard",
    "evaluate": "scorecard",
    "weight_distance": "weights",
    "weights_hash": "weights",
    "quantised": "quantisation",
    "relearn": "recovery",
    "recovery_area": "recovery",
    "recovery_curves": "recovery",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazily(__name__, _HOMES)
