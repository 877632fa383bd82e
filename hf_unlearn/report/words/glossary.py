"""The page's glossary, its limits and the thresholds behind its words."""

from __future__ import annotations

from ...evaluation.forgotten import (
    DAMAGE_RATIO,
    FORGOT_LOSS_SHARE,
    PARTLY_SHARE,
    SEPARABLE_AUC,
    STILL_KNOWN_EXCESS,
)
from ...evaluation.gates import (
    AUC_GAP,
    EXTRACTION_EXCESS,
    KEPT_PARTLY,
    KEPT_SHARE,
    KEPT_WELL,
    OVER_AUC,
    OVER_AUC_MARGIN,
    OVER_LOSS_RATIO,
    QUALITY_FLOOR,
    QUANTISED_EXCESS,
    RECOVERY_AREA,
)

GLOSSARY = (
    ("Forget rows", "The rows that were asked to be deleted."),
    ("Retain rows", "Rows the model was trained on and should go on knowing."),
    ("Unseen rows", "Rows of the same kind that the model was never trained on: the yardstick for having forgotten."),
    ("Test rows", "Rows that were used for no decision at all; they show what the model is worth."),
    (
        "Retrained model",
        "The same model trained from the start without the forget rows. It is the yardstick where it exists; "
        "training it is what unlearning is meant to save.",
    ),
    (
        "Noise floor",
        "How far two retrained models differ that differ in their seed alone. A difference within it means nothing.",
    ),
    (
        "Ready",
        "Trained so that a later request for deletion is quick to meet (“unlearning readiness”); nothing has been "
        "deleted from a ready model yet.",
    ),
    (
        "Loss",
        "How surprised the model is by the right answer, in nats (natural-log units) per label. 0 is certainty. For a "
        "language model a label is a token.",
    ),
    (
        "τ (target)",
        "The loss that the forget rows should reach: by default that of the unseen rows, measured again as the model "
        "changes.",
    ),
    ("α (forget weight)", "Weight of forgetting against keeping in each step; it falls to zero during the run."),
    (
        "Over-forgetting",
        "The forget rows do so much worse than rows never seen that the deletion itself shows. It is a failure, too.",
    ),
    (
        "Membership test",
        "An attacker sees how well the model does on a row and guesses whether the row was in its training data. "
        "AUC: shown one forget row and one unseen row, how often the guess is right; 0.5 is blind guessing, 1 is "
        "certainty. Clearly below 0.5 the rows stand out as deleted.",
    ),
    (
        "ROC, TPR, FPR",
        "An attacker who accuses more rows finds more forget rows (true positives, TPR) and wrongly accuses more "
        "unseen rows (false positives, FPR); the ROC curve shows the one over the other. The start of the curve "
        "counts most: rows found at 1 % false alarms are found almost for certain.",
    ),
    (
        "Min-K%, zlib, U-LiRA",
        "Other membership tests: on the least likely tokens of a row; on the loss against how well the text "
        "compresses; against a few “shadow” models that unlearned the row and some that never saw it.",
    ),
    (
        "PrivLeak",
        "AUC against the retrained model's, in per cent of it. Above 0 more leaks, below 0 is over-forgetting.",
    ),
    (
        "Word for word",
        "Every labelled token of the answer is the model's first choice when the right answer so far is given "
        "(teacher forcing).",
    ),
    (
        "Extraction strength",
        "The share of an answer, at its end, that the model gives by itself once the part before is given.",
    ),
    (
        "Truth ratio",
        "How likely wrong answers are beside the right one in other words. A model that never saw a row has no reason "
        "to prefer either.",
    ),
    (
        "Forget quality",
        "p-value of a test (Kolmogorov-Smirnov) that the forget rows' values look alike in the unlearned and in the "
        "retrained model. Near 0: they do not.",
    ),
    (
        "Power",
        "What a test could have seen. With few rows a difference can be there and not show: a test that is passed "
        "without power proves nothing.",
    ),
    (
        "Relearning",
        "Fine-tuning for a few steps, to see whether the forget rows come back faster than a model learns them that "
        "never saw them.",
    ),
    (
        "Quantisation",
        "Rounding the weights to 8 or 4 bits, as is done to run a model on small machines. Small changes that "
        "unlearning made can be rounded away.",
    ),
    (
        "Interval",
        "95 % bootstrap interval over rows: what other rows of the same kind could have given with this same model. "
        "It does not contain the spread between training seeds.",
    ),
    ("Steps, row passes", "Weight updates of the run, and how many rows went forward and backward through the model."),
)
LIMITS = (
    "Only the attacks named on this page were tried, with the rows and steps that it names. Others, or the same with "
    "more of them, may still bring something back; no measure proves that no trace is left in the weights.",
    "“Unseen rows” are a yardstick only if they are of the same kind as the forget rows and were never trained on. "
    "Where a whole class was removed, look at the retrained model instead.",
    "Compared with unseen rows only, that is without a retrained model, nobody can say what the model would have been "
    "without these rows: rows can be easier or harder than unseen ones for reasons of their own.",
    "A test that is passed shows no more than it could have seen; the page says where that is too little.",
    "The words yes, partly, no and too much, and the limits of the gates, are thresholds of this project (listed "
    "below), not a standard.",
)
THRESHOLDS = (
    ("forgot: yes, from this share of the unseen loss", FORGOT_LOSS_SHARE),
    ("forgot: partly, from this share of the way", PARTLY_SHARE),
    ("still told apart: AUC interval above", SEPARABLE_AUC),
    ("too much: AUC interval below", OVER_AUC),
    ("… and below the retrained model's by", OVER_AUC_MARGIN),
    ("… or forget loss above the unseen and the retrained model's, times", OVER_LOSS_RATIO),
    ("still answered right: more often than the yardstick by", STILL_KNOWN_EXCESS),
    ("damage: unseen loss above that before, times", DAMAGE_RATIO),
    ("kept: yes, from this share", KEPT_WELL),
    ("kept: partly, from this share", KEPT_PARTLY),
    ("gate: forget quality at least (or the noise floor, if lower)", QUALITY_FLOOR),
    ("gate: AUC from the retrained model's at most", AUC_GAP),
    ("gate: utility, share of the retrained model's at least", KEPT_SHARE),
    ("gate: extraction strength above the retrained model's at most", EXTRACTION_EXCESS),
    ("gate: relearning area, share of the retrained model's at least", RECOVERY_AREA),
    ("gate: right after quantisation beyond the retrained model's at most", QUANTISED_EXCESS),
)
