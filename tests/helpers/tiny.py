"""Tiny models, rows and a tokenizer that the tests share; all from configs and dicts, nothing from a network."""

from __future__ import annotations

import copy
import functools

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback

VOCAB = 50
QUIET = {"report_to": [], "log_level": "error", "use_cpu": True, "save_strategy": "no", "logging_steps": 1}
QUIET |= {"disable_tqdm": True, "dataloader_pin_memory": False}
CLASSES = 3


def slow(*values):
    """A case that only the slow suite runs."""
    import pytest

    return pytest.param(*values, marks=pytest.mark.slow)


def made_once(make):
    """
    `make`, whose arguments name one model: made at the first call, a copy of that at each. The generator of the CPU
    goes on from where making it has left it.
    """

    @functools.cache
    def first(*args, **kwargs):
        return make(*args, **kwargs), torch.get_rng_state()

    @functools.wraps(make)
    def copied(*args, **kwargs):
        model, state = first(*args, **kwargs)
        torch.set_rng_state(state)
        return copy.deepcopy(model)

    return copied


@functools.lru_cache
def tokenizer(side: str = "right"):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token="t3")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), pad_token="t0", bos_token="t1", eos_token="t2", padding_side=side
    )


@made_once
def lm(seed: int = 0, hidden: int = 16, layers: int = 1, **config):
    """A Llama with eager attention, so that double backward works."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
    config = {"attn_implementation": "eager", **sizes, **config}
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            num_attention_heads=2,
            max_position_embeddings=32,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            **config,
        )
    )


@made_once
def lm64(seed: int = 0, dropout: float = 0.0, tied: bool = True, layers: int = 1, attention: str = "eager"):
    """A GPT-2 in float64 through and through (a Llama's norms and every causal model's own loss go by float32)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_embd=16,
            n_layer=layers,
            n_head=2,
            n_positions=32,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=tied,
            attn_implementation=attention,
        )
    ).double()
    model.loss_function = _causal_loss64
    return model


def _causal_loss64(logits, labels, vocab_size=None, num_items_in_batch=None, **kwargs):
    from torch.nn.functional import cross_entropy

    logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    if num_items_in_batch is None:
        return cross_entropy(logits, labels, ignore_index=-100)
    return cross_entropy(logits, labels, ignore_index=-100, reduction="sum") / num_items_in_batch


@made_once
def bert(seed: int = 0, dropout: float = 0.0):
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            num_labels=CLASSES,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            attn_implementation="eager",
        )
    )


@made_once
def vit(seed: int = 0):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(seed)
    return ViTForImageClassification(
        ViTConfig(
            image_size=8,
            patch_size=4,
            num_channels=1,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_labels=CLASSES,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="eager",
        )
    )


@made_once
def resnet(seed: int = 0):
    """An image classifier with BatchNorm, whose buffers move with each forward pass."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(seed)
    sizes = {"num_channels": 1, "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "num_labels": CLASSES}
    return ResNetForImageClassification(ResNetConfig(layer_type="basic", **sizes))


def lm_list(n: int, start: int = 0, every: int = 4, short: int = 4, long: int = 11) -> list[dict]:
    """n ragged rows with a prompt of two tokens; each `every`-th is revocable. Pure in (start + row)."""
    rows = []
    for i in range(start, start + n):
        rng = np.random.default_rng([7, i])
        ids = rng.integers(3, VOCAB, int(rng.integers(short, long))).tolist()
        rows.append(
            {
                "id": i,
                "input_ids": ids,
                "attention_mask": [1] * len(ids),
                "labels": [-100, -100, *ids[2:]],
                "revocable": i % every == 0,
            }
        )
    return rows


def lm_rows(n: int, start: int = 0, **kwargs) -> Dataset:
    return copy.deepcopy(_lm_rows(n, start, **kwargs))


@functools.cache
def _lm_rows(n: int, start: int, **kwargs) -> Dataset:
    return Dataset.from_list(lm_list(n, start, **kwargs))


def text_class_rows(n: int, start: int = 0, every: int = 4) -> Dataset:
    rows = lm_list(n, start, every)
    return Dataset.from_list([{**row, "labels": row["id"] % CLASSES} for row in rows])


def image_rows(n: int, start: int = 0, every: int = 4, side: int = 8) -> Dataset:
    rows = []
    for i in range(start, start + n):
        pixels = np.random.default_rng([8, i]).normal(size=(1, side, side)).astype(np.float32)
        rows.append({"id": i, "pixel_values": pixels.tolist(), "labels": i % CLASSES, "revocable": i % every == 0})
    return Dataset.from_list(rows)


def weights(model) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers by name."""
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest relative difference over the tensors, in norm."""
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).norm() / b[k].double().norm().clamp_min(1e-12)) for k in a)


def fit(model, rows, steps: int = 120, lr: float = 1e-2):
    """Trains on all rows in each step until they are known by heart; plain torch, no trainer."""
    from hf_unlearn import default_collator

    batch = default_collator(model, tokenizer())(list(rows))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    model.train()
    for _ in range(steps):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def batch_of(model, rows, side: str = "right") -> dict:
    from hf_unlearn import default_collator

    return default_collator(model, tokenizer(side))(list(rows))


class Gradients(TrainerCallback):
    """Keeps the gradients of each step, as the optimizer gets them."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append([None if p.grad is None else p.grad.clone() for p in model.parameters()])


class Weights(TrainerCallback):
    """Keeps parameters and buffers after each step."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.steps.append(weights(model))


class OptimizerStates(TrainerCallback):
    """Keeps the optimizer's state after each step, by parameter and name."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        found = optimizer.state_dict()["state"]
        self.steps.append({f"{p}.{k}": v.clone() for p, own in found.items() for k, v in own.items()})


def relative(got, want) -> float:
    """‖got - want‖ / ‖want‖ over lists of tensors."""
    total = sum(float((g - w).norm() ** 2) for g, w in zip(got, want, strict=True))
    return (total / sum(float(w.norm() ** 2) for w in want)) ** 0.5
