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
    "ATTACKS": "observation",
    "evenly": "observation",
    "load_tables": "tables",
    "described": "tables",
    "with_description": "tables",
    "save_tables": "tables",
    "compare": "measures.measure",
    "collect": "collection",
    "evaluating": "forward",
    "COLUMNS": "tables",
    "measure": "measures.measure",
    "measure_names": "measures.measure",
    "membership_inference": "measures.membership",
    "compare_membership": "measures.membership",
    "scores": "measures.membership",
    "lira_measures": "measures.lira",
    "logit_confidence": "measures.lira",
    "shadow_plan": "measures.lira",
    "ks_detectable": "statistics",
    "truth_ratio": "measures.tofu",
    "truth_ratio_score": "measures.tofu",
    "answer_probability": "measures.tofu",
    "model_utility": "measures.tofu",
    "forget_quality": "measures.tofu",
    "forget_quality_of": "measures.tofu",
    "utility_of": "measures.tofu",
    "rouge_recall": "attacks.generate",
    "generate": "attacks.generate",
    "Run": "scorecard",
    "Scorecard": "scorecard",
    "evaluate": "scoring",
    "weight_distance": "weights",
    "weights_hash": "weights",
    "quantised": "attacks.quantise",
    "relearn": "attacks.relearn",
    "recovery_area": "attacks.relearn",
    "recovery_curves": "attacks.relearn",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazily(__name__, _HOMES)
