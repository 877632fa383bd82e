"""Score cards made up for tests of the judgement and of the report."""

from __future__ import annotations


def m(value, low=None, high=None, n=48):
    """A measure; without an interval given, one of no width."""
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high, "n": n}


def run(model, *, task="people", seed=0, steps=None, stop_reason=None, details=None, guarantee=None, **measures):
    cost = {"steps": steps, "row_passes": None, "seconds": None}
    measures = {k: v if isinstance(v, dict) else m(v) for k, v in measures.items()}
    return {
        "task": task,
        "model": model,
        "seed": seed,
        "measures": measures,
        "cost": cost,
        "stop_reason": stop_reason,
        "guarantee": guarantee,
        **({"details": details} if details else {}),
    }


def card(*runs):
    return {"schema": 1, "runs": list(runs)}


ORIGINAL = run("original", forget_loss=0.02, unseen_loss=4.0, retain_token_accuracy=0.99, forget_exact_match=1.0)
RETRAINED = run(
    "retrained",
    forget_loss=3.9,
    unseen_loss=4.0,
    retain_token_accuracy=1.0,
    forget_exact_match=0.0,
    forget_mia_loss_auc=m(0.51, 0.42, 0.6),
)
GOOD = {
    "forget_loss": 3.95,
    "unseen_loss": 4.0,
    "retain_token_accuracy": 0.991,
    "forget_exact_match": 0.0,
    "forget_mia_loss_auc": m(0.5, 0.41, 0.59),
}
NOT_FINITE = {"value": None, "low": None, "high": None, "n": 48}


def everything() -> dict:
    """What `render_html` takes of a card that fills every section of the page: a language model, ready and not, with
    two seeds, attacks and a noise floor, and a classifier whose gates say something else."""
    import numpy as np

    gap = {"forget_mia_loss_auc_gap": {**m(0.01, -0.01, 0.03, n=96), "detectable": 0.05}}
    quality = {"distance": 0.2, "detectable": 0.28, "of": "loss"}
    found = {
        **{"test_token_accuracy": 0.9, "forget_mia_loss_tpr_at_1fpr": 0.0, "forget_extraction_strength": 0.04},
        **{"forget_int8_exact_match": 0.0, "forget_int4_exact_match": 0.25, "forget_rephrased_exact_match": 0.02},
        **{"recovery_real_area": {"value": 0.7, "k": 12}, "recovery_retain_area": {"value": 1.1}},
        **{"retain_loss": m(0.1, n=200), "test_loss": m(0.3, n=20), "model_utility": 0.58},
    }
    reference = {"forget_extraction_strength": 0.03, "test_token_accuracy": 0.8, "model_utility": 0.6}
    reference |= {"forget_int8_exact_match": 0.0, "forget_int4_exact_match": 0.0, "weights_to_original": {"value": 0.2}}
    before = {"forget_quality": {**m(1e-9), **quality}, "forget_mia_loss_auc_gap": {**m(0.4), "detectable": 0.05}}
    curve = [{"step": s, "loss": 4.0 - s / 10} for s in (0, 5, 10)]
    layers = {"model.embed": 0.0, "model.layers.0": 0.1, "lm_head": 0.2}
    details = {"recovery": {"real": curve}, "weights": {"to_original": {"whole": 0.1, "layers": layers}}}
    asked = ("What is the capital of France?", "Paris"), ("What is the opposite of hot?", "cold <and> wet")
    probes = {
        role: [
            {"question": q, "accepted": [a.split()[0]], "answer": a if i < right else "the the", "right": i < right}
            for i, (q, a) in enumerate(asked)
        ]
        for role, right in (("original", 2), ("unlearned", 1))
    }
    details["probes"] = probes["unlearned"]
    good = {**GOOD, **found, **gap, "forget_quality": {**m(0.3), **quality}}
    good |= {"general_perplexity": m(41.0, 36, 47, n=64), "general_perplexity_ratio": m(1.03, 1.01, 1.04, n=64)}
    over = {**good, "forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)}
    over |= {"general_perplexity": m(104.0, 95, 114, n=64), "general_perplexity_ratio": m(2.6, 2.3, 2.9, n=64)}
    runs = [
        run(
            "original",
            details={"probes": probes["original"]},
            **{**ORIGINAL["measures"], **before, "general_perplexity": m(40.0, 35, 46, n=64)},
        ),
        run("ready", forget_loss=0.1, unseen_loss=4.0, retain_token_accuracy=0.98),
        run("unlearned", steps=40, stop_reason="retain_budget_spent", details=details, **over),
        run("unlearned", seed=1, steps=44, stop_reason="max_steps", **good),
        run("ready_unlearned", steps=10, stop_reason="forget_loss_reached_target", **good),
        run("retrained", details=details, **{**RETRAINED["measures"], **reference}),
        run("retrained_again", forget_loss=3.7, forget_quality={**m(0.2), **quality}),
    ]
    image = {"forget_loss": 1.0, "unseen_loss": 2.1, "forget_accuracy": 0.5, "test_accuracy": 0.85}
    runs.append(run("unlearned", task="<b>digits</b>", stop_reason="all_passes_done", **image))
    runs.append(run("retrained", task="<b>digits</b>", forget_loss=2.0, forget_accuracy=0.1, test_accuracy=0.9))
    rng = np.random.default_rng(0)
    rows = [
        {"task": r["task"], "model": r["model"], "seed": r["seed"], "split": split, "loss": rng.gamma(2, 1, 40)}
        for r in runs
        for split in ("forget", "unseen", "retain")
    ]
    for r in rows:
        r["scores"] = {"zlib": r["loss"] / 9} if r["task"] == "people" else {}
    log = [{"step": i, "forget_loss": i / 50, "retain_loss": 0.1, "tau": 4.0, "alpha": 0.1} for i in range(1000)]
    log += [{"step": 5, "look_forget_loss": 0.3, "unseen_loss": 4.0}, {"loss": 1.0}, {"step": 9, "tau": None}]
    histories = [
        {"task": "people", "model": model, "seed": 0, "log_history": log} for model in ("unlearned", "ready_unlearned")
    ]
    made = {
        "request": {"by": "column", "column": "<person>", "fraction": 0.1, "count": 12, "values": [], "dataset": "<p>"},
        "date": "2026-11-29",
        "commands": ["python recipes/evaluate.py --a <b>", "echo done"],
        "versions": {"torch": "2.0-of-then"},
        "models": {"retrained": {"weights": "feedbeef", "architecture": "Llama<3>", "parameters": 630_000}},
        "data": {"forget": {"rows": 48, "hash": "cafe01"}},
    }
    return {
        "card": {"schema": 2, "runs": runs, "provenance": {"people": made}},
        "rows": rows,
        "histories": histories,
        "about": {"people": "Forget <six> people."},
        "versions": {"hf_unlearn": "0", "torch": "0"},
    }
