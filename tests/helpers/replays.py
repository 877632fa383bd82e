"""Trainings that can be replayed, tiny, of each kind of model."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from helpers import tiny

from hf_unlearn import ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer

QUIET = {**tiny.QUIET, "logging_strategy": "no"}
SIZES = {"per_device_train_batch_size": 4, "learning_rate": 0.01, "max_steps": 16, "readiness": "replay", "slices": "3"}


def sound_model():
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape = {"num_mel_bins": 16, "max_length": 24, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
    return ASTForAudioClassification(ASTConfig(num_labels=tiny.CLASSES, hidden_dropout_prob=0.1, **sizes, **shape))


def sound_rows(n: int):
    rows = tiny.image_rows(n)
    values = [np.random.default_rng([9, i]).normal(size=(24, 16)).astype(np.float32).tolist() for i in range(n)]
    return rows.remove_columns("pixel_values").add_column("input_values", values)


def language_model():
    return tiny.lm(attention_dropout=0.1)


KINDS = {  # name -> (model, rows)
    "language model": (language_model, tiny.lm_rows),
    "text": (lambda: tiny.bert(dropout=0.1), tiny.text_class_rows),
    "image": (tiny.vit, tiny.image_rows),
    "batch norm": (tiny.resnet, partial(tiny.image_rows, side=16)),  # one row has several values a channel there
    "sound": (sound_model, sound_rows),
}


def adapter(**options):
    from peft import LoraConfig

    return LoraConfig(**{"r": 2, "target_modules": "all-linear", "lora_dropout": 0.1, **options})


def trained(
    out,
    kind="language model",
    deleted: Iterable = (),
    lora=False,
    resume=None,
    rows=None,
    plan=None,
    model=None,
    **options,
):
    """
    A trainer after its training; its model is saved.

    Args:
        lora: True, or the options of an adapter.
        model: None: one of the kind.
    """
    own, make = KINDS[kind]
    args = ReadyConfig(str(out), **{**QUIET, **SIZES, **options})
    trainer = ReadyTrainer(
        own() if model is None else model,
        args,
        make(24) if rows is None else rows,
        processing_class=tiny.tokenizer(),
        peft_config=adapter(**({} if lora is True else lora)) if lora else None,
        deleted=deleted,
        plan=plan,
    )
    trainer.train(resume)
    trainer.save_model()
    return trainer


def replayed(
    out, source, asked, kind="language model", gone: Iterable = (), resume=None, model=None, rows=None, **options
):
    """
    The trainer of a request after its replay; its model is saved.

    Args:
        gone: ids of earlier requests.
        rows: that remain; None: those of the kind.
    """
    out_of = {*asked, *gone}
    if rows is None:
        rows = KINDS[kind][1](24).filter(lambda row: row["id"] not in out_of).shuffle(seed=3)
    args = UnlearnConfig(str(out), **{**QUIET, "method": "replay", **options})
    trainer = UnlearnTrainer(model or str(source), args, list(asked), rows, processing_class=tiny.tokenizer())
    trainer.result = trainer.train(resume)
    trainer.save_model()
    return trainer
