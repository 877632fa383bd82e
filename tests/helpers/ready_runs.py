"""Short runs of `ReadyTrainer`, for the tests of what it does."""

from __future__ import annotations

import dataclasses

from helpers.tiny import (
    QUIET,
    lm64,
    lm_rows,
    tokenizer,
)

from hf_unlearn import ReadyConfig, ReadyTrainer

# the remaining float32 in a float64 run: shares of labels and logged figures
SHARES = 2e-7
OFF = {"lambda_efficiency": 0.0, "lambda_retention": 0.0}


def config(out, **options):
    own = {"per_device_train_batch_size": 8, "learning_rate": 0.05, "lr_scheduler_type": "constant", "optim": "sgd"}
    own |= {"meta_start": 0.0, "meta_gradient": "first_order", "inner_lr": 0.02, "request_rows": 0}
    own |= {"lambda_efficiency": 0.5, "lambda_retention": 1.0}  # what the formulas below hold, whatever the defaults
    return ReadyConfig(str(out), **{**QUIET, "readiness": "meta", **own, **options})


def train(out, model=None, rows=None, revocable="revocable", trainer={}, epsilon=None, **options):  # noqa: B006
    model = lm64() if model is None else model
    rows = lm_rows(16) if rows is None else rows
    run = ReadyTrainer(
        model, config(out, **options), rows, revocable=revocable, processing_class=tokenizer(), **trainer
    )
    if epsilon is not None:
        run.terms = dataclasses.replace(run.terms, fd_epsilon=epsilon)
    run.train()
    return run
