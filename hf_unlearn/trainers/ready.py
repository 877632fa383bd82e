"""`ReadyTrainer`: a `transformers.Trainer` whose models are ready to forget."""

from __future__ import annotations

import math
import os
from dataclasses import asdict

import numpy as np
import torch
from torch.utils.data import SequentialSampler

from ..config import EXACT_CHECKPOINTING, ReadyConfig
from ..data.batch import forward_together
from ..data.checks import column_codes, revocable_problems
from ..data.columns import FLAG, column_values, row_ids
from ..data.order import SpreadSampler, draw_groups, draw_request
from ..evaluation import evaluating
from ..objectives.row_nll import per_row_nll
from ..options import GAIN_CAP, INNER_LR, INNER_LR_ADAPTER
from ..readiness.exact import exact_readiness_gradient
from ..readiness.gradient import readiness_gradient
from ..readiness.moving_weights import add_gradients_, restored, take_gradients
from ..readiness.step import _ReadyStep
from ..readiness.terms import FD_EPSILON, FD_EPSILON_BF16, Terms
from ..utils import records
from ..utils.checks import raise_problems
from ..utils.files import read_json
from ..utils.versions import library_versions
from .base import ForgettingTrainer
from .engines import reshard, several_backwards_problem, shard_sum, total
from .models import chance_loss, has_adapter
from .passes import JointRowsPass, RowsPass

LIMITS = (
    "Readiness is a reconstruction: the paper behind it publishes its objectives, not its equations.",
    "A ready model still knows everything it was trained on; nothing is forgotten before a request.",
    "Readiness for the named revocable rows says nothing about requests for other rows.",
)


class ReadyTrainer(ForgettingTrainer):
    """
    Drop-in for `transformers.Trainer` that trains a model ready for later deletion requests.

    The main loss is untouched: every row is seen once an epoch, the revocable ones spread evenly over the batches. On
    every `meta_every`-th step the terms of [`hf_unlearn.readiness`] are added: a simulated request for `request_rows`
    of the revocable rows, drawn beside the batch (with 0 for those in it), and what it should and should not do. They
    begin after `meta_start` of the training, by default its first half, since a model that is still learning is held
    back by them. With all λ = 0 the run is the stock Trainer's, bit for bit, in the same row order.

    Args:
        model: a model, or the name or path of one, which is then loaded after the checks.
        args: a [`ReadyConfig`].
        train_dataset: rows with labels, and with the boolean column `revocable`.
        revocable: name of that column. None: any row may be asked for one day (ours); on each step a random
            `revocable_share` of the batch plays the request, or the rows of random values of `request_group`.
        eval_dataset, data_collator, processing_class, callbacks, …: as in `transformers.Trainer`.
        peft_config: trains this adapter; θ is then the adapter's weights.

    Raises:
        ArgumentError: with all problems of the data at once, before a model is loaded.
    """

    record_name = records.READINESS

    @property
    def card_tags(self) -> tuple[str, ...]:
        return ("unlearning-ready",) if self.args.readiness_is_on else ()

    def __init__(
        self,
        model,
        args: ReadyConfig | None = None,
        train_dataset=None,
        revocable: str | None = "revocable",
        eval_dataset=None,
        data_collator=None,
        processing_class=None,
        peft_config=None,
        callbacks=None,
        **kwargs,
    ):
        args = ReadyConfig("ready") if args is None else args
        problems = revocable_problems(train_dataset, revocable)
        step_rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._codes = None
        if args.request_group and revocable is not None:
            problems.append(
                f"`request_group` says what anybody may ask for, `revocable={revocable!r}` who; pass one of the two."
            )
        elif args.request_group and args.readiness_is_on and not problems:
            found = column_codes(train_dataset, args.request_group)
            problems += found if isinstance(found, list) else []
            self._codes = None if problems else found
        elif revocable is None and args.readiness_is_on and step_rows * args.revocable_share < 1:
            problems.append(
                f"`revocable_share` {args.revocable_share} of {step_rows} row(s) a step is less than one row: no step "
                "would hold a request. Raise the share or the batch size."
            )
        raise_problems(problems)
        self.revocable = revocable
        self._flags = None if revocable is None else np.array(column_values(train_dataset, revocable), dtype=bool)
        self._usual_loss: bool | None = None  # found out when it is first asked for
        self._steps_with_revocable = 0
        self._readiness_steps = 0
        self._probe: dict[str, float] = {}
        self._commitment: dict | None = None
        super().__init__(
            model,
            args,
            flag=args.request_group if self._codes else revocable,
            codes=self._codes and self._codes[0],
            data_collator=data_collator,
            processing_class=processing_class,
            peft_config=peft_config,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            **kwargs,
        )
        if args.readiness_is_on:
            problem = several_backwards_problem(self.accelerator, "The readiness gradient")
            raise_problems([problem] if problem else [])
        self._terms = self._make_terms()

    def _precision_problems(self, model, args) -> list[str]:
        checkpointed = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        if checkpointed and args.meta_gradient == "exact":
            return [EXACT_CHECKPOINTING]
        half = {p.dtype for p in model.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
        if half and args.readiness_is_on and args.meta_gradient == "finite_difference":
            return [
                f"The trainable weights are {', '.join(map(str, half))}, which cannot hold the perturbation of "
                '`meta_gradient="finite_difference"`. Load the model in float32 (and train with `bf16=True`), or use '
                '"first_order".'
            ]
        return []

    def _make_terms(self) -> Terms:
        args, chance = self.args, chance_loss(self.model)
        inner_lr = INNER_LR_ADAPTER if has_adapter(self.model) else INNER_LR
        return Terms(
            inner_lr=inner_lr if args.inner_lr is None else args.inner_lr,
            inner_steps=int(args.inner_steps),
            inner_normalize=args.inner_normalize,
            meta_gradient=args.meta_gradient,
            lambda_efficiency=args.lambda_efficiency,
            lambda_retention=args.lambda_retention,
            lambda_resistance=args.resistance_weight,
            efficiency=args.efficiency,
            resistance=args.resistance,
            gain_cap=min(GAIN_CAP, chance) if args.gain_cap is None else args.gain_cap,
            cap=chance if args.gain_cap is None else max(chance, args.gain_cap),
            fd_epsilon=FD_EPSILON_BF16 if self.accelerator.mixed_precision == "bf16" else FD_EPSILON,
        )

    @property
    def _draws(self) -> bool:
        """Whether requests are drawn beside the batch; without names and groups a part of the batch plays them."""
        return bool(self.args.request_rows) and (self.revocable is not None or self._codes is not None)

    @property
    def _first_readiness_step(self) -> float:
        return self.args.meta_start * self.state.max_steps

    # ---- the order of the rows ----

    def _get_train_sampler(self, train_dataset=None):
        strategy = getattr(self.args, "train_sampling_strategy", "random")
        if strategy == "sequential":
            return SequentialSampler(self.train_dataset)
        if strategy != "random":
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return SpreadSampler(
            self._flags, len(self.train_dataset), seed, epoch=lambda: int((self.state.epoch or 0) + 1e-6)
        )

    # ---- the step ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step = _ReadyStep(batches)
        if self.args.readiness_is_on and batches and self.state.global_step >= self._first_readiness_step:
            self._prepare_readiness(self._step, device)
        return batches, items

    def _prepare_readiness(self, step: _ReadyStep, device) -> None:
        """Says which rows play which part, and whether it is this step's turn."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        groups = self._codes is not None
        share = self.args.revocable_share if self.revocable is None and not groups else None
        drawn = self._draws
        with_proxy = self._terms.lambda_resistance > 0
        turn_has_come = self._steps_with_revocable % int(self.args.meta_every) == 0
        if drawn and not turn_has_come:
            self._steps_with_revocable += 1
            return

        def reduce(counts):
            return total(self.accelerator, counts.to(device))

        if drawn:
            k = int(self.args.request_rows) * (2 if with_proxy else 1)
            if groups:
                places, chosen = draw_groups(self._codes[1], k, self.args.seed, self._readiness_steps)
                for batch in step.batches:
                    batch[FLAG] = torch.isin(batch[FLAG], torch.as_tensor(chosen, device=batch[FLAG].device))
            else:
                places = draw_request(np.flatnonzero(self._flags), k, self.args.seed, self._readiness_steps)
        step.divide(share, self.args.meta_rows, with_proxy, world, rank, reduce, drawn)
        step.count(reduce, self.hidden_size)
        if drawn:
            cut = math.ceil(len(places) / 2) if with_proxy else len(places)
            step.draw("request", self._parts_of(places[:cut]), reduce)
            step.draw("proxy", self._parts_of(places[cut:]), reduce)
        if step.items["request"] > 0 and step.items["kept"] > 0:
            step.active = turn_has_come
            self._steps_with_revocable += 1

    def _parts_of(self, places: np.ndarray) -> list[tuple[dict, bool]]:
        """
        These rows of the training set, dealt out to the processes, in batches of the usual size: as many passes on
        every process, with a row that counts nothing where there is none left.
        """
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        size = int(self.args.per_device_train_batch_size)
        mine, parts = places[rank::world], []
        for start in range(0, math.ceil(len(places) / world), size):
            some = mine[start : start + size]
            rows = self.data_collator([self.train_dataset[int(i)] for i in (some if len(some) else places[:1])])
            parts.append(({k: v for k, v in rows.items() if k != FLAG}, bool(len(some))))
        return parts

    def micro_step(self, model, inputs, num_items_in_batch=None):
        step = self._step
        if not step.active:
            self.count_rows(len(inputs["labels"]))
            return super().micro_step(model, inputs, num_items_in_batch)
        place = next(i for i, batch in enumerate(step.batches) if batch is inputs)
        loss = torch.zeros((), device=self.args.device)
        if place == 0:
            self._readiness_steps += 1
            loss = loss + self._request_and_readiness(model, step)
        rest = RowsPass(self, model, [step.rest(place)], step.items["all"])
        return loss + rest.add_local_gradient()

    def _request_and_readiness(self, model, step: _ReadyStep) -> torch.Tensor:
        """The request rows' part of the main pass, which is the inner gradient too, and the readiness terms."""
        rows = {
            kind: RowsPass(self, model, step.parts(kind), step.items[kind], repeat_masks=kind != "kept")
            for kind in ("request", "kept", "proxy")
        }
        if step.items["proxy"] == 0:
            rows["proxy"] = RowsPass(self, model, step.parts("kept"), step.items["kept"], repeat_masks=True)
        share = 1.0 if step.drawn else step.items["request"] / step.items["all"]
        for p in self.trainable:  # the readiness gradient starts from a clean `.grad`
            p.grad = None
        loss = rows["request"].add_gradient(share)
        if self._terms.meta_gradient == "exact":
            if step.drawn:
                take_gradients(self.trainable)
            gradient, components = self._exact(rows)
            add_gradients_(self.trainable, gradient)
        else:
            components = readiness_gradient(
                self.trainable,
                revocable=rows["request"],
                stable=rows["kept"],
                proxy=rows["proxy"],
                terms=self._terms,
                revocable_loss=loss,
                share=share,
                counted=not step.drawn,
                both=self._joint_pass(model, step),
                buffers=self.buffers,
                reduce=shard_sum(self.accelerator),
            )
        self.track(**{f"ready_{name}": value for name, value in components.items()})
        return torch.zeros_like(loss) if step.drawn else loss * share

    def _joint_pass(self, model, step: _ReadyStep) -> JointRowsPass | None:
        """One pass over the request's rows and the stable ones in use, where that is cheaper and its masks are free."""
        possible = len(step.batches) == 1 and not step.drawn and self._terms.meta_gradient == "first_order"
        if not possible or self.args.meta_forward == "in_turn":
            return None
        positions = step.positions / self.accelerator.num_processes
        if self.args.meta_forward == "auto" and not forward_together(positions, self.args.device.type):
            return None
        if self._usual_loss is None:
            self._usual_loss = self._has_usual_loss(model, step)
        if not self._usual_loss:
            return None
        masks = step.masks[0]
        chosen = masks["request"] | masks["kept"]
        rows, some = step.part(0, chosen)
        request = masks["request"][chosen] if some else torch.zeros(1, dtype=bool)
        stable = ~request if some else request
        return JointRowsPass(self, model, rows, request, stable, (step.items["request"], step.items["kept"]))

    def _has_usual_loss(self, model, step: _ReadyStep) -> bool:
        """Whether the training loss is the labels' mean cross-entropy and nothing else, as the rows at hand show."""
        rows = self._prepare_inputs(step.part(0, torch.ones_like(step.masks[0]["request"]))[0])
        self.count_rows(len(rows["labels"]), 2 / 3)
        with evaluating(model), torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, dict(rows))
            nll, items = per_row_nll(model(**{k: v for k, v in rows.items() if k != "labels"}).logits, rows["labels"])
        mean = nll.sum() / items.sum().clamp_min(1)
        apart = (loss - mean).abs() > 1e-4 * mean.abs()
        reshard(self.model)
        return bool(total(self.accelerator, apart.float()) == 0) and self.compute_loss_func is None

    def _exact(self, rows: dict[str, RowsPass]):
        """The oracle: double backward through the unwrapped model, attention in its plain form."""
        from torch.func import functional_call
        from torch.nn.attention import SDPBackend, sdpa_kernel

        bare = self.accelerator.unwrap_model(self.model)
        names = [name for name, p in bare.named_parameters() if p.requires_grad]

        def losses(weights, kind):
            swapped = dict(zip(names, weights, strict=True))
            kind = {"revocable": "request", "stable": "kept"}.get(kind, kind)
            return rows[kind].loss_of(lambda **inputs: functional_call(bare, swapped, kwargs=inputs))

        with sdpa_kernel(SDPBackend.MATH), restored(self.buffers):
            return exact_readiness_gradient(self.trainable, losses, self._terms)

    # ---- the record ----

    def log(self, logs, start_time=None):
        super().log(logs, start_time)
        self._probe.update({k[len("ready_") :]: v for k, v in logs.items() if k.startswith("ready_")})

    def _take_up(self, folder):
        if record := read_json(os.path.join(folder, self.record_name)):
            self._steps_with_revocable = record["steps"]["with_revocable_rows"]
            self._readiness_steps = record["steps"]["with_readiness_terms"]
            self._probe = record["probe"]
            self._resume_counts(record)

    def record(self) -> dict:
        terms = asdict(self._terms)
        if self._commitment is None:
            ids = row_ids(self.train_dataset)
            chosen = ids if self._flags is None else [i for i, flag in zip(ids, self._flags, strict=True) if flag]
            salt = records.salt_for(self.args.output_dir)
            self._commitment = {
                "revocable": "any" if self.revocable is None else "named",
                "revocable_rows": len(chosen),
                "revocable_fraction": len(chosen) / len(ids),
                "revocable_commitment": records.commitment(chosen, salt),
            }
        return {
            "schema": records.SCHEMA,
            "method": "Ready2Unlearn, reconstructed (arXiv:2505.10845)",
            "ready": self.args.readiness_is_on,
            **terms,
            "meta_every": int(self.args.meta_every),
            "meta_rows": self.args.meta_rows,
            "request_rows": int(self.args.request_rows) if self._draws else 0,
            "request_group": self.args.request_group,
            "meta_start": self.args.meta_start,
            **self._commitment,
            "steps": {
                "all": self.state.global_step,
                "with_revocable_rows": self._steps_with_revocable,
                "with_readiness_terms": self._readiness_steps,
            },
            "cost": self.cost,
            "skipped": self.skipped,
            "probe": self._probe,
            "request": self.args.request_defaults(),
            "versions": library_versions(),
        }

    def card_info(self) -> dict:
        record = self.record()
        keys = ("method", "meta_gradient", "inner_lr", "inner_steps", "inner_normalize", "meta_every", "meta_rows")
        keys += ("lambda_efficiency", "lambda_retention", "lambda_resistance", "efficiency", "resistance", "gain_cap")
        keys += ("request_rows", "request_group", "meta_start")
        keys += ("revocable", "revocable_rows", "revocable_fraction", "revocable_commitment")
        return {
            "kind": "unlearning-ready" if record["ready"] else "trained without readiness",
            "settings": {key: record[key] for key in keys} | record["steps"],
            "limits": list(LIMITS),
            "how_to_load": self.loading_code(),
        }
