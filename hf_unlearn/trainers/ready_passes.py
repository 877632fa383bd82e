"""The passes of a step with readiness terms, and the gradient that they add to the step's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.batch import forward_together
from ..evaluation import evaluating
from ..objectives.row_nll import per_row_nll
from ..readiness.exact import exact_readiness_gradient
from ..readiness.gradient import readiness_gradient
from ..readiness.moving_weights import add_gradients_, restored, take_gradients
from ..readiness.step_rows import ReadyStep
from ..readiness.terms import Terms
from .engines import reshard, shard_sum, total, uncompiled
from .passes import JointRowsPass, RowsPass

if TYPE_CHECKING:
    from .ready import ReadyTrainer


class ReadyPasses:
    """Runs the passes over a step's request, proxy and stable rows."""

    def __init__(self, trainer: ReadyTrainer):
        self.trainer = trainer
        self._usual_loss: bool | None = None  # whether it is the labels' cross-entropy; None: not asked for yet

    def add_gradient(self, model, step: ReadyStep) -> Tensor:
        """
        Sets `.grad` to the gradient of the readiness terms, plus that of the request's rows where they are rows of the
        batch (their pass in the main loss also gives the inner gradient). Returns what the request's rows add to the
        logged loss, (); 0 where they were drawn beside the batch.
        """
        trainer, terms = self.trainer, self.trainer.simulated.pace.terms
        rows = {
            kind: RowsPass(trainer, model, step.parts(kind), step.items[kind], repeat_masks=kind != "kept")
            for kind in ("request", "kept", "proxy")
        }
        if step.items["proxy"] == 0:
            rows["proxy"] = RowsPass(trainer, model, step.parts("kept"), step.items["kept"], repeat_masks=True)
        share = 1.0 if step.drawn else step.items["request"] / step.items["all"]
        for p in trainer.trainable:  # the readiness gradient starts from a clean `.grad`
            p.grad = None
        loss = rows["request"].add_gradient(share)
        if terms.meta_gradient == "exact":
            if step.drawn:
                take_gradients(trainer.trainable)
            gradient, components = self._exact_gradient(rows, terms)
            add_gradients_(trainer.trainable, gradient)
        else:
            components = readiness_gradient(
                trainer.trainable,
                revocable=rows["request"],
                stable=rows["kept"],
                proxy=rows["proxy"],
                terms=terms,
                revocable_loss=loss,
                share=share,
                counted=not step.drawn,
                both=self._joint_pass(model, step),
                buffers=trainer.buffers,
                reduce=shard_sum(trainer.accelerator),
            )
        trainer.track(**{f"ready_{name}": value for name, value in components.items()})
        trainer.simulated.pace.took_turn(components.get("gain"))
        return torch.zeros_like(loss) if step.drawn else loss * share

    def _joint_pass(self, model, step: ReadyStep) -> JointRowsPass | None:
        """One pass over the request's rows and the stable ones in use, where that is cheaper and its masks are free."""
        trainer, args = self.trainer, self.trainer.args
        possible = len(step.batches) == 1 and not step.drawn and trainer.terms.meta_gradient == "first_order"
        if not possible or args.meta_forward == "in_turn":
            return None
        positions = step.positions / trainer.accelerator.num_processes
        cheaper = forward_together(positions, args.device.type) and trainer.program is None  # whose costs are planned
        if args.meta_forward == "auto" and not cheaper:
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
        return JointRowsPass(trainer, model, rows, request, stable, (step.items["request"], step.items["kept"]))

    def _has_usual_loss(self, model, step: ReadyStep) -> bool:
        """Whether the training loss is the labels' mean cross-entropy and nothing else, as the rows at hand show."""
        trainer, model = self.trainer, uncompiled(model)
        rows = trainer._prepare_inputs(step.part(0, torch.ones_like(step.masks[0]["request"]))[0])
        trainer.count_rows(len(rows["labels"]), 2 / 3)
        with evaluating(model), torch.no_grad(), trainer.compute_loss_context_manager():
            loss = trainer.main_loss.mean(model, dict(rows))
            nll, items = per_row_nll(model(**{k: v for k, v in rows.items() if k != "labels"}).logits, rows["labels"])
        mean = nll.sum() / items.sum().clamp_min(1)
        apart = (loss - mean).abs() > 1e-4 * mean.abs()
        reshard(trainer.model)
        return bool(total(trainer.accelerator, apart.float()) == 0) and trainer.compute_loss_func is None

    def _exact_gradient(self, rows: dict[str, RowsPass], terms: Terms) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Double backward through the unwrapped model, with attention in its plain form."""
        from torch.func import functional_call
        from torch.nn.attention import SDPBackend, sdpa_kernel

        trainer = self.trainer
        bare = trainer.accelerator.unwrap_model(trainer.model)
        names = [name for name, p in bare.named_parameters() if p.requires_grad]

        def losses(weights, kind):
            swapped = dict(zip(names, weights, strict=True))
            kind = {"revocable": "request", "stable": "kept"}.get(kind, kind)
            return rows[kind].loss_of(lambda **inputs: functional_call(bare, swapped, kwargs=inputs))

        with sdpa_kernel(SDPBackend.MATH), restored(trainer.buffers):
            return exact_readiness_gradient(trainer.trainable, losses, terms)
