"""
`MemoryDeletionTrainer`: takes sources out of a memory by dropping their tables; nothing is trained for that.

Where some rows of a source are asked for and others are not, its table is dropped, too, and filled anew from the rest:
the program that a training without the asked rows runs for it. Of one table that all share, the entries of the sources
are taken out, and those of partly asked ones learn anew beside what the others have learned: that is approximate.

On the disk all tables lie in one file, as PEFT saves an adapter, and the result is a folder of its own. In it every
tensor of another source, its digest, and what all share are, byte for byte, those of the folder before. Others are the
header of that file, which says where each tensor begins, and `memory.rows`, which numbers the sources that are left.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import time

import numpy as np
from transformers.trainer_utils import TrainOutput

from ..config import ReadyConfig, UnlearnConfig
from ..data.columns import column_names, row_ids
from ..readiness.memory.model import store_of, tuner_of
from ..report.words import model_card
from ..unlearning import stop_rule
from ..utils.checks import raise_problems
from ..utils.files import write_json
from ..utils.versions import library_versions
from . import known_rows, memory_words, records
from .base import ForgettingTrainer
from .engines import decided_by_first, is_deterministic
from .memory import MemoryTrainer, SourceCallback
from .memory_request import MemoryAsked, look_up, place_problems
from .memory_sources import Sources
from .replay_request import has_rows, tell_idle
from .replaying import RAN_ELSEWHERE, differing, machine
from .same_run import HARMLESS
from .weights_digest import frozen_digest

logger = logging.getLogger(__name__)


class MemoryDeletionTrainer(MemoryTrainer):
    """
    What `UnlearnTrainer(…)` makes for a model with a memory.

    Args:
        model: folder or hub id of the model; or the model itself, with its folder as `readiness_from`.
        args: an [`UnlearnConfig`]; what a table is trained with comes from the model's record.
        forget_dataset: the rows, or their ids.
        retain_dataset: where only some rows of a source are asked for, the others of it; else nothing is read of it.

    Raises:
        ArgumentError: with all that is wrong with the request, before a model is loaded.
    """

    drops = True
    card_roles = ("ready_unlearned", "unlearned")

    def __init__(
        self,
        model,
        args: UnlearnConfig,
        forget_dataset=None,
        retain_dataset=None,
        unseen_dataset=None,
        eval_dataset=None,
        data_collator=None,
        processing_class=None,
        peft_config=None,
        callbacks=None,
        general_dataset=None,  # of steps on a loss; nothing is read of it here
        **kwargs,
    ):
        self.asked = asked = decided_by_first(lambda: self._look_up(model, args, forget_dataset))
        problems = place_problems(asked, args.output_dir)
        if args.method == "objective":
            problems.append('`method` is "objective", but a memory is not taken out by steps: drop its tables, "auto".')
        tell_idle(args, "drops tables of the memory")
        rows, self.sources, wrong = rest_of_parts(asked, retain_dataset)
        raise_problems(problems + wrong)
        self.asked_rows = forget_dataset if has_rows(forget_dataset) else [{"id": one} for one in asked.asked]
        self.keep_superseded, self._took = bool(args.keep_superseded), 0.0
        self.revocable, self._new_memory, self._seed = None, None, args.seed
        self._known, found = decided_by_first(lambda: known_rows.read_of([asked.source]))
        raise_problems(found or self._content_problems(rows, processing_class))
        self.before, self._known_rows, self._base = asked, None, None
        self._loss_before, self.public_loss, self.dropped = [], list(asked.memory["public_loss"]), False
        ForgettingTrainer.__init__(
            self,
            model,
            config_of(asked, args),
            train_dataset=rows,
            eval_dataset=eval_dataset,
            data_collator=data_collator,
            processing_class=processing_class,
            callbacks=callbacks,
            **kwargs,
        )
        if tuner_of(self.model) is None:
            raise_problems([f"The model has no memory, and the record of {asked.source} is of one. Pass that folder."])
        if asked.parts:
            self.refuse_several_processes()
        self.store = store_of(self.model)
        self.take_schedule(asked.memory["arguments"])
        self._rows = asked.rest_of_parts
        missing = [source for source in asked.rows.sources if source not in self.store.tables]
        said = f"The model lacks the tables of {len(missing)} of {len(asked.rows.sources)} sources of {asked.source}."
        raise_problems([*([f"{said} Pass that folder."] if missing else []), *self._base_problems()])
        self.add_callback(SourceCallback(self))

    def _look_up(self, model, args: UnlearnConfig, asked) -> MemoryAsked:
        return look_up(model, asked, args.readiness_from, args.salt_file)

    def _with_memory(self, model):
        return model

    def _content_problems(self, rows, processing_class) -> list[str]:
        """Whether the rows that tables are filled anew from say what they said at the training."""
        if not self.asked.parts:
            return []
        chosen = np.isin(np.arange(len(rows)), np.concatenate(self.sources.places))
        return known_rows.not_met(self._known, rows, chosen, processing_class)

    def _base_problems(self) -> list[str]:
        """Whether the model below is the one that the tables were filled beside."""
        self._base = frozen_digest(self.accelerator.unwrap_model(self.model))
        if self._base == self.asked.memory["base"]:
            return []
        if not self.sources.names:  # nothing is computed with it
            logger.warning("The model below the memory is another one than at its training, or in another dtype.")
            return []
        return [
            "The model below the memory is another one than at its training, or in another dtype: a table that is "
            "filled anew beside it would not be the one that a training without the rows fills. Load it as it was."
        ]

    # ---- the request ----

    def learn_public(self):
        """What is usual is known from the training."""

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """
        Drops the tables, and fills anew those of sources that only some rows of are asked for. The result's metrics
        hold `guarantee`, `dropped_sources`, `retrained_sources` and `drop_seconds`.
        """
        asked, began = self.asked, time.perf_counter()
        self.store.tables.drop([source for source in asked.whole + asked.parts if source in self.store.tables])
        self._took, self.dropped = time.perf_counter() - began, True
        if asked.parts:
            result = super().train(resume_from_checkpoint, *args, **kwargs)
        else:
            result = TrainOutput(global_step=0, training_loss=0.0, metrics={"row_passes": 0.0, "skipped_steps": 0})
        result.metrics.update(self.outcome())
        return result

    @property
    def stop_reason(self) -> str | None:
        """`"dropped"` once the tables are gone; None before."""
        return stop_rule.DROPPED if self.unlearned else None

    @property
    def unlearned(self) -> bool:
        return self.dropped and self.is_ready

    @property
    def guarantee(self) -> str:
        if not self.unlearned:
            return records.NOT_FORGOTTEN
        if self.store.config.variant != "own":
            return records.APPROXIMATE
        other = self.other_machine or not is_deterministic(self.args.device)
        return records.APPROXIMATE if self.asked.parts and other else records.EXACT

    @property
    def other_machine(self) -> dict:
        """What may change bits and is other than at the training: name -> [then, now]."""
        then = self.asked.memory
        return {**then.get(RAN_ELSEWHERE, {}), **differing(then.get("machine") or {}, machine(self))}

    @property
    def all_rows(self):
        return self.asked.rest

    @property
    def is_ready(self):
        return all(source in self.store.tables for source in self.asked.rest.sources)

    def outcome(self) -> dict:
        """What the request has come to, JSON-ready."""
        return {
            records.GUARANTEE: self.guarantee,
            "stop_reason": self.stop_reason,
            "dropped_sources": len(self.asked.whole),
            "retrained_sources": len(self.asked.parts),
            "drop_seconds": round(self._took, 6),
        }

    # ---- what it leaves behind ----

    @property
    def record_names(self):
        return {records.READINESS, records.UNLEARNING}

    def record(self):
        found = super().record()
        then = self.asked.memory
        kept = {name: then[name] for name in ("request_group", "arguments", "machine")}
        kept[RAN_ELSEWHERE] = self.other_machine if self.asked.parts else then.get(RAN_ELSEWHERE, {})
        return {**found, "memory": {**found["memory"], **kept}}

    def known_rows(self):
        if self._known_rows is None:
            salt = records.salt_for(self.args.output_dir, [*self._known.salts, self.asked.rows.key])
            gone = known_rows.commit(known_rows.FORGOTTEN, self.asked_rows, salt, set(), self.processing_class)
            self._known_rows = [*self._known.sets, *gone]
        return self._known_rows

    def write_beside(self, folder):
        super().write_beside(folder)
        content = {
            "schema": records.SCHEMA,
            "method": memory_words.METHODS[self.store.config.variant],
            "rows": {"forget": len(self.asked.asked), "retain": len(self.asked.rest)},
            "weights_of_step": self.state.global_step,
            "cost": self.cost,
            **self.outcome(),
            "not_deleted": self.not_deleted,
            "versions": library_versions(),
        }
        write_json(os.path.join(folder, records.UNLEARNING), content)

    @property
    def not_deleted(self) -> list[dict]:
        """What may still hold the tables, JSON-ready."""
        before = [{"what": self.asked.source, "why": "kept"}] if os.path.isdir(self.asked.source) else []
        elsewhere = ("copies of the model", "revisions on the hub", "generations that were saved")
        return before + [{"what": what, "why": "out of reach"} for what in elsewhere]

    def save_model(self, output_dir=None, _internal_call=False):
        """`Trainer.save_model`; with `keep_superseded=False` the model before it is deleted once this one is whole."""
        super().save_model(output_dir, _internal_call)
        if _internal_call or not self.args.should_save or not self.unlearned:
            return
        if not self.keep_superseded and os.path.isdir(self.asked.source):
            shutil.rmtree(self.asked.source)
            for folder in {output_dir or self.args.output_dir, self.args.output_dir}:
                self.write_beside(folder)
        logger.warning(
            "The asked sources are out of the memory in %s. What may still hold them: %s.",
            self.args.output_dir, "; ".join(f"{one['what']} ({one['why']})" for one in self.not_deleted)
        )  # fmt: skip

    @property
    def card_tags(self):
        return ("unlearned", *super().card_tags) if self.unlearned else ()

    def card_info(self):
        info, asked = super().card_info(), len(self.asked.asked)
        approximate = model_card.MEMORY_APPROXIMATE
        if self.store.config.variant != "own":
            approximate = model_card.MEMORY_SHARED_APPROXIMATE
        kinds = {records.EXACT: model_card.MEMORY_EXACT, records.APPROXIMATE: approximate}
        return {
            **info,
            "kind": kinds.get(self.guarantee, model_card.NOT_UNLEARNED),
            "rows": "1 row" if asked == 1 else f"{asked} rows",
            "stop_reason": self.stop_reason,
            "settings": {**info["settings"], **self.outcome()},
        }


def config_of(asked: MemoryAsked, args: UnlearnConfig) -> ReadyConfig:
    """The arguments of the training, with the request's own where these do not touch what is trained."""
    then = asked.memory
    names = {f.name for f in dataclasses.fields(ReadyConfig)} & {f.name for f in dataclasses.fields(args)}
    own = {name: getattr(args, name) for name in names & HARMLESS if name not in then["arguments"]}
    own |= {"gradient_accumulation_steps": 1, "snapshots": None, "request": None}
    return ReadyConfig(**{**own, **then["arguments"], "readiness": "memory", "request_group": then["request_group"]})


def rest_of_parts(asked: MemoryAsked, rows) -> tuple:
    """
    `(rows that partly asked sources are filled anew from, their Sources, what is wrong)`.

    Args:
        rows: that are left, of any source; None: none are at hand.
    """
    from datasets import Dataset

    if not asked.parts:
        return Dataset.from_dict({"id": []}), Sources([], [], np.zeros(0, np.int64)), []
    wanted = asked.rest_of_parts
    there = [] if rows is None or "id" not in column_names(rows) else row_ids(rows)
    place_of = {number: place for place, number in enumerate(wanted.numbers_of(there)) if number >= 0}
    missing = len(wanted) - len(place_of)
    if missing:
        return None, None, [
            f"Of {len(asked.parts)} source(s) only some rows are asked for, and their tables are filled anew from the "
            f"others: {missing} of these {len(wanted)} are not in `retain_dataset`. Give all rows that are left, with "
            "their column `id`; or ask for all rows of the source."
        ]
    places = [
        np.array([place_of[number] for number in np.flatnonzero(wanted.source_of == i)])  # in the training's order
        for i in range(len(wanted.sources))
    ]
    return rows, Sources(list(wanted.sources), places, np.zeros(0, np.int64)), []
