"""What a study of planted rows found of the measures themselves."""

from __future__ import annotations

# Measures with an AUC below .9 at telling models that saw the forget rows in a few passes from models that never did,
# by their names without the split `forget_`. Found by `python recipes/tools/faithfulness.py` and kept in
# recipes/tools/results/faithfulness.json; a test holds the two together.
WEAK_BY_KIND: dict[str, frozenset[str]] = {  # "causal_lm": of people; "classifier": of a random tenth of digits
    "causal_lm": frozenset(
        {
            "mia_entropy_accuracy",
            "mia_entropy_auc",
            "mia_entropy_auc_gap",
            "mia_entropy_privleak",
            "mia_entropy_tpr_at_01fpr",
            "mia_entropy_tpr_at_1fpr",
            "rephrased_exact_match",
            "truth_ratio",
            "weights_to_retrained",
        }
    ),
    "classifier": frozenset(
        {
            "accuracy",
            "int4_accuracy",
            "int4_prob",
            "int8_accuracy",
            "mia_entropy_accuracy",
            "mia_entropy_auc",
            "mia_entropy_auc_gap",
            "mia_entropy_privleak",
            "mia_entropy_tpr_at_01fpr",
            "mia_entropy_tpr_at_1fpr",
            "mia_loss_accuracy",
            "mia_loss_auc",
            "mia_loss_auc_gap",
            "mia_loss_privleak",
            "mia_loss_tpr_at_01fpr",
            "mia_loss_tpr_at_1fpr",
            "quality",
            "recovery_real_area",
            "recovery_retain_area",
            "recovery_similar_area",
            "weights_to_retrained",
        }
    ),
}
