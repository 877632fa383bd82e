"""The lines of the catalogue that benchmarks bring, in `benchmarks/`. Data only: nothing heavy is imported."""

from __future__ import annotations

from .vocabulary import BENCHMARKS, MUSE, Measure

WMDP = "Li et al. 2024, The WMDP Benchmark, arXiv:2403.03218"
MMLU = "Hendrycks et al. 2021, Measuring Massive Multitask Language Understanding, arXiv:2009.03300"
ROUGES = {  # end of a name -> how the report calls it
    "rougeL_f1": "ROUGE-L F1",
    "rougeL_recall": "ROUGE-L recall",
    "rougeL_f1_stemmed": "ROUGE-L F1 of stems",
    "rougeL_recall_stemmed": "ROUGE-L recall of stems",
}
ANSWERS = {  # part of MUSE -> label, explanation, better side
    "verbmem_forget": (
        "MUSE, texts to forget said word for word",
        "How much of a text to forget comes again when the model goes on with its beginning, greedily.",
        "low",
    ),
    "knowmem_forget": (
        "MUSE, questions on texts to forget",
        "How near its greedy answers to questions on the texts to forget are to the right ones.",
        "low",
    ),
    "knowmem_retain": (
        "MUSE, questions on texts to keep",
        "How near its greedy answers to questions on the texts to keep are to the right ones.",
        "high",
    ),
}
_OF = {"section": BENCHMARKS, "kinds": ("causal_lm",), "made_by": "benchmark"}
_RIGHT = {**_OF, "unit": "share", "formula": "measures.choices.answered_right"}

BENCHMARK_MEASURES = (
    *(
        Measure(
            f"muse_{part}_{rouge}",
            f"{label}: {how}",
            f"{explanation} {how}, mean over the rows.",
            unit="share",
            good=good,
            citation=MUSE,
            formula="measures.rouge.rouge_l",
            **_OF,
        )
        for part, (label, explanation, good) in ANSWERS.items()
        for rouge, how in ROUGES.items()
    ),
    Measure(
        "muse_privleak",
        "MUSE, PrivLeak (%)",
        "100 (A - A_retrained) / A_retrained, per cent, with A as in the line of the AUC: about -100 where nothing was "
        "forgotten, above 0 where the texts stand out as deleted.",
        unit="per cent of the AUC",
        good="0",
        compares=True,
        citation=MUSE,
        formula="measures.membership.compare_membership",
        **_OF,
    ),
    Measure(
        "muse_privleak_auc",
        "MUSE, texts to forget against others by Min-K%: A = 1 - AUC",
        "How often a text to forget is found less likely than one that was never trained on, by the mean loss of its "
        "tokens with the highest losses: near 0 where its texts are known, 0.5 where they cannot be told from others.",
        unit="AUC",
        citation=MUSE,
        formula="measures.membership.membership_inference",
        **_OF,
    ),
    Measure(
        "muse_raw_{rows}_loss",
        "MUSE, raw texts, {rows}: loss (nats per token)",
        "Mean negative log-likelihood of the texts' tokens, in nats: ratio of sums over the texts.",
        unit="nats",
        citation=MUSE,
        formula="measures.losses.loss",
        **_OF,
    ),
    *(
        Measure(
            name,
            label,
            "Share of the questions whose right choice is the likeliest; by chance one in so many as there are.",
            good=good,
            citation=source,
            **_RIGHT,
        )
        for title, good, source in (("WMDP", "low", WMDP), ("MMLU", "high", MMLU))
        for name, label in (
            (f"{title.lower()}_accuracy", f"{title}: answered right"),
            (f"{title.lower()}_{{rows}}_accuracy", f"{title}, {{rows}}: answered right"),
        )
    ),
)
