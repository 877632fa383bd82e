"""The page's glossary, its limits and the thresholds behind its words."""

from __future__ import annotations

from ...evaluation.forgotten import DAMAGE_RATIO, FORGOT_LOSS_SHARE, PARTLY_SHARE, SEPARABLE_AUC
from ...evaluation.gates import (
    AUC_GAP,
    EXTRACTION_EXCESS,
    GENERAL_RATIO,
    KEPT_PARTLY,
    KEPT_SHARE,
    OVER_AUC,
    OVER_AUC_MARGIN,
    OVER_LOSS_RATIO,
    QUALITY_FLOOR,
    QUANTISED_EXCESS,
    RECOVERY_AREA,
    REMEMBERED_LOSS,
)
from ...evaluation.run_measures import STILL_KNOWN_EXCESS

GLOSSARY = (
    ("Forget rows", "The rows that someone asked to remove."),
    ("Retain rows", "Rows that the model was trained on and should still know after the request."),
    (
        "Unseen rows",
        "Rows of the same kind that the model was never trained on. A model that has forgotten does on the forget rows "
        "what it does on these.",
    ),
    ("Test rows", "Rows that no decision used, in training or in unlearning. They show how good the model is."),
    (
        "Retrained model",
        "The same model, trained from the start without the forget rows: what unlearning tries to reach at less cost. "
        "Where there is one, everything is compared with it.",
    ),
    (
        "Noise floor",
        "How far two retrained models differ when only their training seeds do. A difference no larger means nothing.",
    ),
    (
        "Ready",
        "Trained so that a later request takes few steps (“unlearning readiness”). Nothing has been removed from a "
        "ready model yet.",
    ),
    (
        "Forgotten",
        "Yes, when the loss of the forget rows has reached that of unseen rows, and neither membership tests by loss "
        "and entropy nor right answers still give the rows away. Where the model from before the request would get a "
        "yes, too, it cannot be said.",
    ),
    (
        "Kept",
        "The model's accuracy as a share of the retrained model's; without one, of its own before the request. Of test "
        "rows, retain rows and model utility the lowest share counts. More than 100 % is no gain, so the page does not "
        "say how much more.",
    ),
    (
        "General ability",
        "What the model can do that has nothing to do with the request. It is measured by the perplexity on general "
        "texts, the exponential of the loss: among how many equally likely tokens the model could as well have chosen. "
        "Where it rises, the request damaged the model. Probe questions, a few of general knowledge and language, show "
        "the same in words; ten are too few to decide anything by themselves.",
    ),
    (
        "Verdict",
        "Whether any test tells the model from a retrained one. Each test is a gate: it is passed, failed, or "
        "undecided because something was not measured, there are too few rows, or the test could not have seen a "
        "difference.",
    ),
    (
        "Weak",
        "A measure that, in a study of this project, often failed to tell models that saw such rows lightly from "
        "models that never did. No test of the verdict rests on a weak measure alone.",
    ),
    (
        "Loss",
        "How surprised the model is by the right answer, in nats (natural-log units) per label; 0 is certainty. For a "
        "language model a label is a token.",
    ),
    (
        "τ (target)",
        "The loss that the forget rows should reach: by default that which the unseen rows have before the first step.",
    ),
    (
        "α (forget weight)",
        "How much forgetting counts against keeping in each step. It falls to zero during the run.",
    ),
    (
        "Over-forgetting",
        "The forget rows do so much worse than rows the model never saw that the deletion itself can be seen. This is "
        "a failure, too.",
    ),
    (
        "Membership test",
        "An attacker sees how well the model does on a row and guesses whether it was trained on it. AUC: given one "
        "forget row and one unseen row, how often the guess is right. 0.5 is blind guessing, 1 is certainty; clearly "
        "below 0.5 the forget rows stand out as deleted.",
    ),
    (
        "ROC, TPR, FPR",
        "An attacker who accuses more rows finds more forget rows (true positive rate, TPR) and wrongly accuses more "
        "unseen rows (false positive rate, FPR). The ROC curve plots TPR over FPR. Its start counts most: the rows "
        "found at 1 % false alarms are almost certainly members.",
    ),
    (
        "Min-K%, zlib, U-LiRA",
        "Other membership tests. Min-K% looks at the least likely tokens of a row; zlib at the loss beside the size of "
        "the compressed text; U-LiRA compares with “shadow” models, half of which unlearned the row while the other "
        "half never saw it.",
    ),
    (
        "PrivLeak",
        "How far 1 − AUC is from the retrained model's, in per cent of that, as its source counts: about −100 where "
        "nothing was forgotten, above 0 where the forget rows stand out as deleted.",
    ),
    (
        "Word for word",
        "At every token of the answer the model's first choice is the right one, given the right tokens before it "
        "(teacher forcing).",
    ),
    (
        "Extraction strength",
        "The share of an answer, counted from its end, that the model completes by itself once it is given the rest.",
    ),
    (
        "Truth ratio",
        "How likely wrong answers are compared with a paraphrase of the right one. A model that never saw a row has no "
        "reason to prefer either.",
    ),
    (
        "Forget quality",
        "p-value of a Kolmogorov-Smirnov test: do the forget rows' values look alike in the unlearned and in the "
        "retrained model? Near 0 they do not.",
    ),
    (
        "Power",
        "Whether a test could have seen a difference. With few rows a difference may be there and not show, so passing "
        "a test without power proves nothing.",
    ),
    (
        "Relearning",
        "The model is fine-tuned for a few steps, to see whether the forget rows come back faster than a model learns "
        "them that never saw them.",
    ),
    (
        "Quantisation",
        "Rounding the weights to 8 or 4 bits, as is done to run a model on small machines. Rounding can undo the small "
        "changes that unlearning made.",
    ),
    (
        "Interval",
        "95 % bootstrap interval over rows: what other rows of the same kind could have given with this model. It does "
        "not contain the differences between training seeds.",
    ),
    (
        "Steps, row passes",
        "Updates of the weights, and the number of rows that went forward and backward through the model.",
    ),
)
LIMITS = (
    "Only the attacks named on this page were tried, with the rows and steps given here. Other attacks, or the same "
    "with more rows or steps, may still bring something back. No measure proves that the weights hold no trace.",
    "Unseen rows are a fair comparison only if they are of the same kind as the forget rows and were never trained on. "
    "Where a whole class was removed there are no such rows: compare with the retrained model instead.",
    "Without a retrained model nobody can say how the model would treat the forget rows had it never seen them: they "
    "may be easier or harder than unseen rows for reasons of their own.",
    "Passing a test shows no more than the test could have seen. The page says where that is too little.",
    "Yes, partly, no and too much, and the limits of the gates, are thresholds of this project (listed below). They "
    "are not a standard.",
)
THRESHOLDS = (
    ("Forgotten, yes: forget loss at least this share of the unseen loss", FORGOT_LOSS_SHARE),
    ("Forgotten, partly: at least this share of the way there from before the request", PARTLY_SHARE),
    ("Forgotten, not yes: the whole interval of a membership AUC lies above", SEPARABLE_AUC),
    ("Forgotten, not yes: share of rows still right exceeds the comparison's by more than", STILL_KNOWN_EXCESS),
    ("Too much: the whole interval of the membership AUC lies below", OVER_AUC),
    ("… and below the retrained model's interval by", OVER_AUC_MARGIN),
    ("… or the forget loss exceeds both the unseen and the retrained model's, times", OVER_LOSS_RATIO),
    ("Damage to the model: unseen loss above that before the request, times", DAMAGE_RATIO),
    ("Kept, yes: at least this share", KEPT_SHARE),
    ("Kept, partly: at least this share", KEPT_PARTLY),
    ("Gate: forget quality at least (or the noise floor, if that is lower)", QUALITY_FLOOR),
    ("… and, without a p-value to rest on, forget loss of the retrained model's at least", REMEMBERED_LOSS),
    ("Gate: membership AUC from the retrained model's at most", AUC_GAP),
    ("Gate: perplexity on general texts, times that before the request at most", GENERAL_RATIO),
    ("Gate: accuracy and utility, share of the retrained model's at least", KEPT_SHARE),
    ("Gate: extraction strength above the retrained model's at most", EXTRACTION_EXCESS),
    ("Gate: area of relearning, share of the retrained model's at least", RECOVERY_AREA),
    ("Gate: share of rows right after rounding, above the retrained model's at most", QUANTISED_EXCESS),
)
