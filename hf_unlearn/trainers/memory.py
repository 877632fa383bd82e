"""
`MemoryTrainer`: what `ReadyTrainer(…)` makes with `readiness="memory"`; it fills a table for each source.

The model stays as it is. The sources are trained one after the other, each by itself: in batches of its own rows, with
an optimizer, a learning rate and generators that begin anew with it. So its table is the same, bit for bit, whoever
else is there, and a source that is deleted leaves what a training without it gives ([`hf_unlearn.readiness.memory`]).
Of one table that all share, all sources are trained together (`memory_filling.py`).
"""

from __future__ import annotations

import logging
import os
from functools import partial

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from ..config import ReadyConfig
from ..data.checks import training_set
from ..data.order import rows_at
from ..data.replay_schedule import EpochOfSchedule, collating_problems
from ..data.source_schedule import SourceSchedule
from ..evaluation import evaluating
from ..readiness import replay
from ..readiness.memory.config import MemoryConfig
from ..readiness.memory.model import store_of, tuner_of, values_of
from ..report.words import model_card
from ..utils.checks import Wrong, raise_problems, shown
from ..utils.files import read_json
from ..utils.versions import library_versions
from . import known_rows, memory_words, records
from .base import ForgettingTrainer
from .engines import decided_by_first
from .loading import with_adapter
from .memory_arguments import ARGUMENTS, OF_THE_SCHEDULE, argument_problems, with_defaults, without_rows
from .memory_before import adding_problems, memory_before, unknown_tables, warn_of_replaced
from .memory_filling import FILLINGS, Seen, order_problems
from .memory_pass import positions_of
from .memory_sources import MemoryRows, sources_of, warn_of_rows
from .models import base_model, is_causal_lm, name_of
from .replay_program import seed_all
from .replaying import RAN_ELSEWHERE, differing, machine
from .same_run import plain
from .taken_in import take_in
from .weights_digest import frozen_digest

logger = logging.getLogger(__name__)

WARMUP, FALL = 0.1, 0.6  # shares of the steps of what learns together: the rate rises until one, falls from the other
PUBLIC_ROWS = 1024  # that say what is usual, at most


class SourceCallback(TrainerCallback):
    """Tells the trainer when the training begins, and when a source's last step is done."""

    def __init__(self, trainer: MemoryTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.learn_public()

    def on_step_end(self, args, state, control, **kwargs):
        done = self.trainer.end_of_step(state.global_step)
        ready = done or not self.trainer.filling.waits
        self._due = getattr(self, "_due", False) or control.should_save
        control.should_save = self._due and ready
        self._due = self._due and not ready
        return control


class MemoryTrainer(ForgettingTrainer):
    """
    Args:
        model: the frozen model, or the name of one, or one that has a memory already: rows of new sources then add
            tables to it, rows of known ones take the place of theirs.
        args: a [`ReadyConfig`] with `request_group`, the column that names the source of each row.
        train_dataset: rows; those without a source (None, or `revocable` False) train nothing: they say what is usual.
        revocable: boolean column; rows where it is False are of no source. It need not be there.
        peft_config: a [`MemoryConfig`]; None: the default one.
        deleted: ids of rows to leave out: the very program without them, what a deletion equals.

    Raises:
        ArgumentError: with all problems of the data at once, before a model is loaded.
    """

    record_name = records.READINESS
    card_roles = ("ready", "original")
    own_callbacks = (*ForgettingTrainer.own_callbacks, SourceCallback)
    _public_places: np.ndarray | None = None  # of the public rows that say what is usual

    def __init__(
        self,
        model,
        args: ReadyConfig,
        train_dataset=None,
        revocable: str | None = "revocable",
        eval_dataset=None,
        data_collator=None,
        processing_class=None,
        peft_config=None,
        callbacks=None,
        deleted=(),
        plan=None,
        **kwargs,
    ):
        own = {"eval_dataset": eval_dataset, "data_collator": data_collator, "processing_class": processing_class}
        others = {**kwargs, **own, "peft_config": peft_config, "callbacks": callbacks}

        def take_rows(limits, plain):
            rows, wrong = training_set(train_dataset, None, limits, plain, processing_class)
            return [rows], wrong

        (rows,), problems = take_in(model, args, ReadyConfig, others, "training", take_rows)
        problems += argument_problems(args, kwargs, peft_config, plan)
        self.revocable, self.sources = revocable, None
        self.before = None
        if not problems:
            rows, problems = without_rows(rows, deleted)
            self.sources, wrong = sources_of(rows, args.request_group, revocable)
            problems += wrong
            self.before = decided_by_first(lambda: memory_before(model))
        if not problems and self.before:
            problems += adding_problems(self.before, args, peft_config, rows, self.sources)
        raise_problems(problems)
        warn_of_rows(rows, self.sources, processing_class)
        warn_of_replaced(self.before, rows, self.sources)
        folders = [folder for folder in (name_of(model),) if folder and os.path.isdir(folder)]
        self._known, found = decided_by_first(lambda: known_rows.read_of(folders))
        raise_problems(found or known_rows.problems(self._known, processing_class, training=rows))
        self._new_memory, self._seed = peft_config or MemoryConfig(**args.memory_values()), args.seed
        if not isinstance(model, (str, os.PathLike)):
            model = self._with_memory(model)
        args = with_defaults(args, self._variant_of(model))
        super().__init__(model, args, train_dataset=rows, **{**others, "peft_config": None})
        self.refuse_several_processes()
        self.store = store_of(self.model)
        self.take_schedule({name: getattr(args, name) for name in OF_THE_SCHEDULE})
        raise_problems(unknown_tables(self.before, self.store))
        self._rows: MemoryRows | None = None
        self._known_rows: list[known_rows.KnownRows] | None = None
        self._base: str | None = None  # digest of the frozen weights
        raise_problems(self._base_problems())
        self._loss_before: list[float] = []  # of each source, nats
        self.public_loss: list[float] = []  # before and after, nats
        self.add_callback(SourceCallback(self))

    def take_schedule(self, arguments: dict) -> None:
        """Which rows come when, by the arguments of the memory's first training."""
        epochs, batch, seed = (int(arguments[name]) for name in OF_THE_SCHEDULE)
        seeded = partial(seed_all, seed)
        filling = FILLINGS[self.store.config.variant]
        self.filling = filling(self.store, values_of(self.model), self.sources.places, self._seen_of)
        self.schedule = SourceSchedule(self.train_dataset, self.filling.groups, epochs, batch, seed, seeded)
        if len(self.schedule):
            problems = collating_problems(self.schedule, self.data_collator)
            if self.store.config.variant == "shared":
                problems += order_problems(self.schedule, self.data_collator)
            raise_problems(problems)

    def refuse_several_processes(self) -> None:
        """Before tables are filled: a source's rows are too few to be dealt out."""
        if self.accelerator.num_processes > 1:
            raise_problems(["A memory is trained on one process: its sources are small. Start it without a launcher."])

    def load(self, source, init):
        model = self._with_memory(super().load(source, init))
        if then := (records.find_readiness(source) or {}).get("memory"):
            base_model(model).set_attn_implementation(then["machine"]["attention"])  # its sums' order is the kernel's
        return model

    def _with_memory(self, model):
        """The model with a memory on it, if it has none yet."""
        return model if tuner_of(model) is not None else with_adapter(model, self._new_memory, self._seed)

    def _variant_of(self, model) -> str:
        """Of the memory that is on the model, or is going to be; a folder with tables has told its arguments."""
        tuner = None if isinstance(model, (str, os.PathLike)) else tuner_of(model)
        return self._new_memory.variant if tuner is None else next(iter(tuner.stores.values())).config.variant

    def _base_problems(self) -> list[str]:
        """Whether the model below is the one that the tables which are there already were filled beside."""
        if self.before is None:
            return []
        self._base = frozen_digest(self.accelerator.unwrap_model(self.model))
        if self._base == self.before.memory["base"]:
            return []
        return [
            "The model below the memory is another one than at its training, or in another dtype: the tables that are "
            "there would not fit it. Load it as it was."
        ]

    # ---- what is public ----

    def learn_public(self) -> None:
        """Before the first step: takes from public rows what is usual, unless the memory knows it already."""
        places = self.sources.public
        if len(places) == 0:
            if not len(self.store.tables):
                memory_words.warn_of_no_public(self.args.request_group, self.store.config.variant)
            return
        seed_all(self.args.seed)
        places = places[:: max(1, len(places) // PUBLIC_ROWS)][:PUBLIC_ROWS]
        self._public_places = places
        self.public_loss = self.public_loss[:1] or [self._loss_of(places)]  # of a run that goes on, that of its start
        if not len(self.store.tables):
            inputs: list[list[torch.Tensor]] = []
            for found, rows, _, _ in self._recorded(places):
                split = [states.split(torch.bincount(rows).tolist()) for states in found]
                inputs = [before + list(own) for before, own in zip(inputs or [[]] * len(split), split, strict=True)]
            self.store.learn_public(inputs)

    def _loss_of(self, places: np.ndarray) -> float:
        """Mean loss of some rows, nats, by the memory as it is."""
        losses = [out.loss.item() * size for out, size in self._forwards(places)]
        return sum(losses) / len(places)

    def _forwards(self, places: np.ndarray):
        """(output, rows) of the model on each batch of some rows, without gradients."""
        size = int(self.args.per_device_eval_batch_size)
        with evaluating(self.model), torch.no_grad():
            for own in np.array_split(places, range(size, len(places), size)):
                self._batch = self._prepare_inputs(self.data_collator(rows_at(self.train_dataset, own.tolist())))
                self.count_rows(len(own), 1 / 3)
                yield self.model(**self._batch), len(own)

    def _recorded(self, places: np.ndarray):
        """For each batch of some rows: inputs of the memory layers, row, asks, answers of the positions (n, …)."""
        with self.store.record() as recording:
            for out, _ in self._forwards(places):
                self._loss_before.append(float(out.loss))
                found = [torch.cat(recording.inputs[at]) for at in sorted(recording.inputs)]
                recording.inputs.clear()
                tokens, rows, asks, answers = positions_of(self._batch, len(found[0]), is_causal_lm(self.model))
                yield [states[tokens] for states in found], rows[tokens], asks[tokens], answers[tokens]

    # ---- a source ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self.state.global_step < len(self.schedule):
            group, step = self.schedule.locate(self.state.global_step)
            if step == 0:
                self._begin_group(group)
            elif self.store.working is None:
                self.filling.go_on()
            self.filling.step(self.schedule.places(self.state.global_step))
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def training_step(self, model, inputs, num_items_in_batch=None):
        seed_all(self.args.seed, self.schedule.locate(self.state.global_step)[1])  # loaders draw, too, now and then
        return super().training_step(model, inputs, num_items_in_batch)

    def micro_step(self, model, inputs, num_items_in_batch=None):
        self.count_rows(len(inputs["labels"]))
        return super().micro_step(model, inputs, num_items_in_batch)

    def _begin_group(self, group: int) -> None:
        if self.store.config.variant == "shared":  # where tables that are there are read
            names = self.rows_of_memory.sources
            self.store.tables.drop([name for name in names if name in self.store.tables])
        self.filling.begin(group)
        if self.optimizer is not None:
            inner = getattr(self.optimizer, "optimizer", self.optimizer)
            inner.state.clear()

    def _seen_of(self, source: int) -> Seen:
        """What the model alone sees of a source's rows."""
        seed_all(self.args.seed)
        kept = len(self._loss_before)
        batches = list(self._recorded(self.sources.places[source]))
        before = self._loss_before[kept:]
        self._loss_before[kept:] = [sum(before) / len(before)]
        rows = [own[1] + 10**6 * k for k, own in enumerate(batches)]  # of two batches they are not the same
        inputs = [torch.cat(states) for states in zip(*(own[0] for own in batches), strict=True)]
        return inputs, torch.cat(rows), *(torch.cat([own[i] for own in batches]) for i in (2, 3))

    def end_of_step(self, done: int) -> bool:
        """After each step; True where it was the last of a table or of all, which are then put with the others."""
        group, step = self.schedule.locate(done - 1)
        if step + 1 < self.schedule.steps[group]:
            return False
        tables = self.filling.end(group)
        for source, table in tables:
            if not all(one.isfinite().all() for one in table.values):
                raise ValueError(
                    f"The values of source {source + 1} of {len(self.sources.places)} have grown beyond half "
                    "precision: its training has diverged. Lower `learning_rate`."
                )
        self.store.working = None
        for source, table in tables:
            self.store.tables.put(self.rows_of_memory.sources[source], table)
        self.filling.empty()
        return True

    @property
    def rows_of_memory(self) -> MemoryRows:
        """Whose rows this training's are."""
        if self._rows is None:
            earlier = [self.before.rows.key] if self.before else []
            salt = records.salt_for(self.args.output_dir, earlier)
            self._rows = MemoryRows.of(self.train_dataset, self.sources, salt)
        return self._rows

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """`Trainer.train`; the result's metrics also hold `sources` and, with public rows, `public_loss`."""
        try:
            result = super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.store.working = None
        if self._public_places is not None:
            self.public_loss = [*self.public_loss[:1], self._loss_of(self._public_places)]
            result.metrics["public_loss"] = list(self.public_loss)
        result.metrics["sources"] = len(self.store.tables)
        own = (self.store.tables.by_source.get(source) for source in self.rows_of_memory.sources)
        many, variant = len(self.sources.names), self.store.config.variant
        memory_words.warn_of_silent([table for table in own if table is not None], many, variant)
        memory_words.warn_of_known(self._loss_before[-many:])
        return result

    # ---- hooks of the Trainer ----

    def get_train_dataloader(self):
        return self._get_dataloader(
            dataset=self.schedule,
            description="Training",
            batch_size=1,
            sampler_fn=lambda schedule: EpochOfSchedule(schedule, lambda: int((self.state.epoch or 0) + 1e-6)),
            is_training=True,
        )

    def num_examples(self, dataloader) -> int:
        if dataloader.dataset is self.schedule:
            return sum(map(len, self.sources.places))
        return super().num_examples(dataloader)

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, self._rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _rate(self, done: int) -> float:
        """Factor of the learning rate in the step after so many: it rises and falls within the steps of a group."""
        if done >= len(self.schedule):
            return 0.0
        source, step = self.schedule.locate(done)
        steps = self.schedule.steps[source]
        return replay.rate(step, steps=steps, warmup=int(WARMUP * steps), fall=int(FALL * steps))

    # ---- what the run is made of, and its record ----

    def run_rows(self):
        return {"training": self.train_dataset}

    @property
    def columns_read(self):
        return {self.revocable, self.args.request_group} - {None}

    @property
    def own_schedule(self):
        within = memory_words.STEPS[self.store.config.variant]
        return {"lr_scheduler_type": f"a memory's: warm-up, constant, linear decay within the steps {within}"}

    @property
    def card_tags(self):
        return ("unlearning-ready",) if self.is_ready else ()

    @property
    def is_ready(self) -> bool:
        """Whether each source has its table."""
        return all(source in self.store.tables for source in self.rows_of_memory.sources)

    def known_rows(self):
        if self._known_rows is None:
            salt = records.salt_for(self.args.output_dir, self._known.salts)
            own = known_rows.commit(
                known_rows.TRAINED, self.train_dataset, salt, self.columns_read, self.processing_class
            )
            self._known_rows = [*self._known.sets, *own]
        return self._known_rows

    @property
    def all_rows(self) -> MemoryRows:
        """Whose rows all tables are of, also those of earlier trainings."""
        return self.rows_of_memory if self.before is None else self.before.rows.joined(self.rows_of_memory)

    @property
    def _machines(self) -> dict:
        """What its bits may depend on; and what of it was other as tables were filled, where there are earlier ones."""
        now, then = machine(self), {} if self.before is None else self.before.memory
        elsewhere = {**then.get(RAN_ELSEWHERE, {}), **differing(then.get("machine", now), now)}
        return {"machine": then.get("machine", now), RAN_ELSEWHERE: elsewhere}

    def record(self) -> dict:
        rows = self.all_rows
        if self._base is None:
            self._base = frozen_digest(self.accelerator.unwrap_model(self.model))
        ids = sorted(digest.tobytes().hex() for digest in rows.ids)
        return {
            "schema": records.SCHEMA,
            "method": memory_words.METHODS[self.store.config.variant],
            "ready": self.is_ready,
            "readiness": self.args.readiness,
            "memory": {
                "variant": self.store.config.variant,
                "salt": rows.salt,
                "base": self._base,
                "sources": len(rows.sources),
                "rows": len(rows),
                "bytes": self.store.tables.bytes,
                "public_loss": self.public_loss,
                "request_group": self.args.request_group,
                "arguments": {name: plain(getattr(self.args, name)) for name in ARGUMENTS},
                **self._machines,
            },
            "revocable": "any",
            "revocable_rows": len(rows),
            "revocable_fraction": 1.0,
            "revocable_commitment": records.commitment(ids, rows.key),
            "cost": self.cost,
            "skipped": self.finite_guard.to_dict(),
            "request": self.args.request_defaults(),
            "versions": library_versions(),
        }

    def write_beside(self, folder):
        super().write_beside(folder)
        self.all_rows.write(folder)

    def resume_problems(self, folder):
        found = read_json(os.path.join(folder, self.record_name)) or {}
        then, now = found.get("memory", {}).get("arguments", {}), self.args
        other = [name for name in OF_THE_SCHEDULE if name in then and plain(getattr(now, name)) != then[name]]
        return super().resume_problems(folder) + [
            Wrong(
                name,
                f"is {shown(plain(getattr(now, name)))}, and {folder} was written with {shown(then[name])}: a table "
                "has the steps of one program. Leave it as it was, or train anew.",
            )
            for name in other
        ]

    def resume_record(self, folder):
        super().resume_record(folder)
        if found := read_json(os.path.join(folder, self.record_name)):
            self.resume_costs(found)
            self.public_loss = list(found["memory"]["public_loss"])

    def card_info(self):
        found = self.record()["memory"]
        settings = {key: found[key] for key in ("variant", "sources", "rows", "bytes")}
        settings |= {name: getattr(self.store.config, name) for name in ("layers", "entries", "top_k")}
        variant = self.store.config.variant
        kind = model_card.MEMORIES[variant] if self.is_ready else model_card.NOT_READY
        return {"kind": kind, "settings": settings, "limits": list(memory_words.LIMITS[variant])}
