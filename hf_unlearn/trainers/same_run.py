"""
Is a checkpoint one of this run? `run.json` in a checkpoint holds digests of the rows that the run is made of, keyed by
the salt in the output folder ([`hf_unlearn.trainers.records`]), every option that changes what is trained, the model's
class and the names of the weights that are trained, and the names of the user's own optimizer, schedule, collator and
loss. A run is resumed only where all are the same.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import logging
import math
import os
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..config import step_rows
from ..data.columns import REFERENCE_COLUMN, column_names
from ..data.row_digests import drawn_columns, is_stored, read_alike, row_digests
from ..utils.files import read_json, write_json
from . import records
from .engines import class_name, keeps_shards
from .given_functions import code_of_given, values_of
from .models import base_model, has_adapter

if TYPE_CHECKING:
    from .base import ForgettingTrainer

logger = logging.getLogger(__name__)

RUN = "run.json"
LENGTHS = ("max_steps", "num_train_epochs", "passes")  # may be others on resume: a run that was too short goes on
STEP_ROWS = "per_device_train_batch_size × gradient_accumulation_steps × processes"
# Options of `TrainingArguments` and of ours that do not say what is trained: where and how it is computed, evaluated,
# logged, saved, pushed. An option that is not listed does.
HARMLESS = {
    "output_dir", "do_train", "do_eval", "do_predict", "resume_from_checkpoint", "run_name", "project", "report_to",
    "disable_tqdm", "debug", "logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter",
    "log_on_each_node", "log_level", "log_level_replica", "trackio_space_id", "trackio_bucket_id",
    "trackio_static_space_id", "include_num_input_tokens_seen", "eval_strategy", "eval_steps", "eval_delay",
    "eval_on_start", "per_device_eval_batch_size", "prediction_loss_only", "eval_do_concat_batches",
    "eval_use_gather_object", "eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics",
    "bf16_full_eval", "fp16_full_eval", "save_only_model", "save_strategy", "save_steps", "save_on_each_node",
    "save_total_limit", "enable_jit_checkpoint", "load_best_model_at_end", "metric_for_best_model",
    "greater_is_better", "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy",
    "hub_always_push", "hub_revision", "restore_callback_states_from_checkpoint", "ignore_data_skip",
    "skip_memory_metrics", "local_rank", "use_cpu", "full_determinism", "gradient_checkpointing",
    "gradient_checkpointing_kwargs", "activation_checkpointing", "activation_checkpointing_kwargs", "torch_compile",
    "torch_compile_backend", "torch_compile_mode", "use_liger_kernel", "liger_kernel_config", "use_cache",
    "torch_empty_cache_steps", "parallelism_config", "dataloader_num_workers", "dataloader_pin_memory",
    "dataloader_persistent_workers", "dataloader_prefetch_factor", "dataloader_multiprocessing_context",
    "dataloader_in_order", "remove_unused_columns", "ddp_find_unused_parameters", "ddp_bucket_cap_mb",
    "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend", "ddp_timeout", "fsdp", "fsdp_config", "deepspeed",
    "auto_find_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps", "meta_forward",
    "forget_forward", "request", "readiness_from", "method", "salt_file", "snapshots", "keep_superseded",
    "model_init_kwargs",
}  # fmt: skip
FUNCTIONS = ("data_collator", "compute_loss_func")  # that a user may bring
CODE = "code of "  # what the digest of such a function's code begins with
PEFT = "peft_config."  # what the options of an adapter begin with
OF_THE_FILES = ("peft_version", "auto_mapping", "base_model_name_or_path", "inference_mode", "revision")


def write(trainer: ForgettingTrainer, folder: str) -> None:
    """Writes `run.json` into a checkpoint."""
    salt = records.salt_for(trainer.args.output_dir)
    if trainer.rows_of_run is None:  # once a run: all rows are read
        trainer.rows_of_run = {name: _rows(trainer, name, of, salt) for name, of in trainer.run_rows().items()}
    content = {"schema": records.SCHEMA, "salt": records.salt_id(salt), "rows": trainer.rows_of_run}
    content |= {"options": _options(trainer), "model": _model(trainer)}
    write_json(os.path.join(folder, RUN), content)


def problems(trainer: ForgettingTrainer, folder: str) -> list[str]:
    """
    What differs between this run and the one that wrote the checkpoint; a warning tells of another length, which may
    differ, and of what cannot be compared.
    """
    if other := _of_the_other_trainer(trainer, folder):
        return [f"Cannot resume from {folder}: it is of {other}."]
    saved = read_json(os.path.join(folder, RUN))
    if saved is None:  # of a version that did not write it
        logger.warning("%s has no %s: whether it is of the same rows and options is not known.", folder, RUN)
        return []
    now = _options(trainer)
    found = _model_problems(trainer, folder, saved, now) + _row_problems(trainer, folder, saved)
    for name, was in saved["options"].items():
        if name not in now or now[name] == was:
            continue
        if name in LENGTHS:
            logger.warning(
                "`%s` was %r in %s and is %r: what depends on the length of the run (the schedules of the learning "
                "rate and of α, `meta_start`) goes by the new one from here on.", name, was, folder, now[name]
            )  # fmt: skip
        else:
            found.append(f"`{name}` was {was!r} and is {now[name]!r}.")
    if not found:
        return []
    head = f"Cannot resume from {folder}: it is of another run."
    fix = (
        "Resume with the same rows and options, or begin this run in an `output_dir` of its own, without "
        "`resume_from_checkpoint`."
    )
    return ["\n".join([head, *(f"* {one}" for one in found), fix])]


def _of_the_other_trainer(trainer: ForgettingTrainer, folder: str) -> str | None:
    """What the other trainer makes, where the checkpoint is one of its own."""
    kinds = {records.READINESS: "a training (`ReadyTrainer`)", records.UNLEARNING: "a request (`UnlearnTrainer`)"}
    there = [name for name in kinds if os.path.exists(os.path.join(folder, name))]
    return None if trainer.record_name in there or not there else kinds[there[0]]


def _model_problems(trainer: ForgettingTrainer, folder: str, saved: dict, options: dict) -> list[str]:
    """Another class, an adapter that only one of the two has, other weights that are trained, other shapes."""
    was, now = saved.get("model"), _model(trainer)
    then = any(name.startswith(PEFT) for name in saved["options"])
    if then != any(name.startswith(PEFT) for name in options):
        said = "It trains an adapter, and this run does not" if then else "This run trains an adapter, and it does not"
        return [f"{said} (`peft_config`)."]
    if was is None or all(was[key] == now[key] for key in was.keys() & now.keys()):  # older versions wrote less
        return []
    if was["class"] != now["class"]:
        return [f"The model was a {was['class']} and is a {now['class']}."]
    if (was["trained"], was["names"]) != (now["trained"], now["names"]):
        return [f"Other weights are trained: {was['trained']} tensors then, {now['trained']} now."]
    return [_other_sizes(trainer, folder, was["sizes"], now["sizes"])]


def _other_sizes(trainer: ForgettingTrainer, folder: str, was: list, now: list) -> str:
    """That a model has weights of other shapes, with what tells so in its config, which is in the checkpoint."""
    then = read_json(os.path.join(folder, "config.json")) or {}  # none of an adapter, or of a class of one's own
    config = base_model(trainer.model).config.to_dict() if then else {}
    sizes = {k: v for k, v in then.items() if isinstance(v, int) and isinstance(config.get(k), int) and v != config[k]}
    named = ", ".join(f"`{name}` {value} then, {config[name]} now" for name, value in sizes.items())
    return f"The model has other sizes: {was[0]:,} weights then, {now[0]:,} now{f' ({named})' if named else ''}."


def _model(trainer: ForgettingTrainer) -> dict:
    """
    Class of the model below an adapter; which of its weights are trained, by number and names; and where they are not
    sharded, `[number, digest of the shapes]` of all that a checkpoint holds.
    """
    model = trainer.model
    trained = [name.split(".") for name, weight in model.named_parameters() if weight.requires_grad]
    names = "\n".join(".".join(part for part in name if part[:1] != "_") for name in trained)  # `_orig_mod`, say
    kind = class_name(model.get_base_model() if hasattr(model, "get_base_model") else model)
    digest = hashlib.sha256(names.encode()).hexdigest()
    found = {"class": kind, "trained": len(trained), "names": digest}
    if keeps_shards(trainer.accelerator):
        return found
    saved = [weight for weight in model.parameters() if weight.requires_grad or not has_adapter(model)]
    shapes = hashlib.sha256(repr([tuple(weight.shape) for weight in saved]).encode()).hexdigest()
    return {**found, "sizes": [sum(weight.numel() for weight in saved), shapes]}


def _row_problems(trainer: ForgettingTrainer, folder: str, saved: dict) -> list[str]:
    salts = records.known_salts(os.path.dirname(os.path.abspath(folder)), trainer.args.output_dir)
    salt, found = salts.get(saved["salt"]), []
    if salt is None:
        logger.warning(
            "The salt of %s is in none of the folders beside it (%s): whether the rows are the same is known by their "
            "number alone.", os.path.join(folder, RUN), records.SALT
        )  # fmt: skip
    for name, rows in trainer.run_rows().items():
        was = saved["rows"].get(name)
        if was is None:
            continue
        if missing := [column for column in was["columns"] or () if column not in column_names(rows)]:
            found.append(f"The {name} rows lack the column(s) {', '.join(map(repr, missing))}.")
        elif was["rows"] != len(rows):
            found.append(f"The {name} rows are others: {was['rows']} then, {len(rows)} now.")
        elif was["in_order"] is None:
            _tell_of_drawing(name, was.get("drawn") or was["columns"], [])
        elif salt is not None:
            if was.get("drawn"):
                _tell_of_drawing(name, was["drawn"], was["columns"])
            found += _differing(name, rows, was, salt)
    return found


def _differing(name: str, rows, was: dict, salt: str) -> list[str]:
    """Whether rows are those of a checkpoint, of as many, in the columns that it has digests of."""
    digests = row_digests(rows, was["columns"])
    now = _of_all(digests, salt)
    if digests is not None and now != (was["in_order"], was["in_any_order"]):
        if read_alike(rows, was["columns"], digests):
            if now[1] != was["in_any_order"]:
                return [f"The {name} rows are others, {len(rows)} as then but not the same."]
            return [f"The {name} rows come in another order."]
        digests = None
    if digests is None:
        _tell_of_drawing(name, drawn_columns(rows, was["columns"]) or was["columns"], [])
    return []


def _tell_of_drawing(name: str, drawn: list[str], compared: list[str]) -> None:
    beside = f" and by {', '.join(map(repr, compared))}" if compared else ""
    logger.warning(
        "The %s rows are drawn anew each time they are read (%s), as where pictures are flipped at random: whether "
        "they are the same rows is known by their number%s alone.", name, ", ".join(map(repr, drawn)), beside
    )  # fmt: skip


def _rows(trainer: ForgettingTrainer, name: str, rows, salt: str) -> dict:
    """
    Number and keyed digests of a set of rows over the columns that can be read twice alike; None where none can. The
    others are `drawn`.
    """
    columns = trained_columns(trainer, rows)
    drawn = drawn_columns(rows, columns)
    columns = [column for column in columns if column not in drawn]
    in_order, in_any_order = _of_all(row_digests(rows, columns, checked=True) if columns else None, salt)
    said = {"rows": len(rows), "columns": columns, "in_order": in_order, "in_any_order": in_any_order}
    return {**said, "drawn": drawn} if drawn else said


def _of_all(found: list[bytes] | None, salt: str) -> tuple[str | None, str | None]:
    """A set's digest in order and in any order, keyed."""
    if found is None:
        return None, None
    in_order, in_any_order = (
        hmac.new(salt.encode(), b"".join(some), hashlib.sha256).hexdigest() for some in (found, sorted(found))
    )
    return in_order, in_any_order


def trained_columns(trainer: ForgettingTrainer, rows) -> list[str]:
    """
    Columns that can change what is trained: those of the model and ours; all but `id` where these are unknown, or where
    a transform makes them from others.
    """
    names = [name for name in column_names(rows) if name != "id"]
    taken = None if hasattr(rows, "with_format") and not is_stored(rows) else trainer.columns_taken
    own = {*trainer.columns_read, REFERENCE_COLUMN}
    if taken is None or not (taken - {"label", "labels", "label_ids"}) & set(names):
        return sorted(names)
    return sorted(set(names) & (taken | own))


def own_parts(others: Mapping[str, Any]) -> dict:
    """
    What a user has brought beside rows and options, by name: the class and the defaults of an optimizer, the class of
    its schedule, collator and loss with the values that they were made with; None where it is the trainer's own.

    Args:
        others: the trainer's further arguments, before they are used.
    """
    optimizer, schedule = others.get("optimizers") or (None, None)
    defaults = getattr(optimizer, "defaults", {})
    kind, options = others.get("optimizer_cls_and_kwargs") or (type(optimizer), defaults)
    found = {"optimizers": None if kind is type(None) else kind.__qualname__}
    found |= {f"optimizers.{name}": value for name, value in options.items()}
    found["optimizers.schedule"] = None if schedule is None else type(schedule).__qualname__
    for name in FUNCTIONS:
        found |= {name: _name_of(others.get(name))}
        found |= {f"{name}.{value}": of for value, of in values_of(others.get(name)).items()}
    return found


def own_code(others: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the code of functions that a user has brought, by `code of …`."""
    return {f"{CODE}{name}": code for name in FUNCTIONS if (code := code_of_given(others.get(name)))}


def _name_of(given: Any) -> str | None:
    """Of a function, or of the class of an object; without the module, which is another one in a script."""
    while isinstance(given, functools.partial):
        given = given.func
    return None if given is None else getattr(given, "__qualname__", type(given).__qualname__)


def _options(trainer: ForgettingTrainer) -> dict:
    args = trainer.args
    names = [field.name for field in dataclasses.fields(args) if field.name not in HARMLESS]
    found = {name: getattr(args, name) for name in names} | trainer.run_options()
    found[STEP_ROWS] = step_rows(args)
    return {name: plain(value) for name, value in found.items()} | brought(trainer)


def brought(trainer: ForgettingTrainer) -> dict:
    """What a user has brought beside rows and options, by name, JSON-ready: [`own_parts`], and an adapter's options."""
    found = dict(trainer.own_parts)
    for config in getattr(trainer.model, "peft_config", {}).values():
        own = config.to_dict()
        if own.get("modules_to_save"):  # PEFT adds the names of heads each time that the adapter is loaded
            own["modules_to_save"] = list(dict.fromkeys(own["modules_to_save"]))
        found |= {f"{PEFT}{k}": v for k, v in own.items() if k not in OF_THE_FILES}
    return {name: plain(value) for name, value in found.items()}


def plain(value):
    """As JSON gives it back."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    exact = value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    return value if exact else str(value)
