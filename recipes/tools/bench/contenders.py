"""The trainers that are compared: one small Llama each, the same weights, the same rows."""

from __future__ import annotations

import os

BATCH = {"lambda_efficiency": 0.1, "lambda_retention": 1.0, "request_rows": 0}  # the batch's own rows ask


class Bench:
    """Builds the contenders: one small Llama each, the same weights, the same rows."""

    def __init__(self, args, folder: str):
        import torch
        from datasets import Dataset

        self.args, self.folder, self.weights = args, folder, None
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(3, args.vocab_size, (8 * args.batch_size, args.length), generator=generator).tolist()
        self.rows = Dataset.from_list(
            [{"input_ids": row, "labels": row, "half": i % 2 == 0, "quarter": i % 4 == 0} for i, row in enumerate(ids)]
        ).with_format("torch")

    def model(self):
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        size = self.args.hidden_size
        config = LlamaConfig(
            vocab_size=self.args.vocab_size,
            hidden_size=size,
            intermediate_size=3 * size,
            num_hidden_layers=self.args.layers,
            num_attention_heads=max(1, size // 64),
            max_position_embeddings=self.args.length,
        )
        model = LlamaForCausalLM(config)
        if self.weights is None:
            self.weights = self._a_little_trained(model)
        model.load_state_dict(self.weights)
        return model

    def _a_little_trained(self, model) -> dict:
        """A model that knows something: gradients of an untrained one are not like those of any real run."""
        import torch

        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for i in range(20):
            ids = self.rows[(i % 4) * self.args.batch_size : (i % 4 + 1) * self.args.batch_size]["input_ids"]
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return model.state_dict()

    def settings(self, name: str, rows: int) -> dict:
        return {
            "output_dir": os.path.join(self.folder, name),
            "per_device_train_batch_size": rows,
            "learning_rate": 0.0,
            "lr_scheduler_type": "constant",
            "max_steps": 1_000_000,
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "log_level": "error",
            "bf16": self.args.bf16,
            "use_cpu": self.args.cpu,
            "dataloader_pin_memory": False,
        }

    def plain(self, name: str, rows: int):
        from transformers import Trainer, TrainingArguments, default_data_collator

        rows_of = self.rows.remove_columns(["half", "quarter"])
        args = TrainingArguments(**self.settings(name, rows))
        return Trainer(self.model(), args, train_dataset=rows_of, data_collator=default_data_collator)

    def ready(self, name: str, revocable: str = "half", **options):
        from transformers import default_data_collator

        from hf_unlearn import ReadyConfig, ReadyTrainer

        args = ReadyConfig(
            **self.settings(name, self.args.batch_size), readiness="meta", meta_start=0.0, **(BATCH | options)
        )
        return ReadyTrainer(self.model(), args, self.rows, revocable=revocable, data_collator=default_data_collator)

    def unlearn(self, name: str, tau: float, **options):
        import dataclasses

        from transformers import TrainerCallback, default_data_collator

        from hf_unlearn import UnlearnConfig, UnlearnTrainer

        class Gate(TrainerCallback):
            def on_train_begin(self, *args, **kwargs):
                trainer.request_state = dataclasses.replace(trainer.request_state, tau=tau)

        rows, half = self.args.batch_size // 2, len(self.rows) // 2
        own = options if "objective" in options else {"gap": "hinge", **options}
        args = UnlearnConfig(**self.settings(name, rows), stop=False, passes="100000", **own)
        sets = (range(half), range(half, 2 * half - rows), range(2 * half - rows, 2 * half))
        trainer = UnlearnTrainer(
            self.model(), args, *(self.rows.select(s) for s in sets), data_collator=default_data_collator
        )
        trainer.add_callback(Gate())
        return trainer

    def npo_kl(self, name: str):
        """NPO (Zhang et al. 2024) with KL to a frozen copy on the retain rows, as public frameworks write it."""
        import torch
        from torch.nn import functional as F
        from transformers import Trainer, TrainingArguments

        reference = self.model().eval().to("cpu" if self.args.cpu else "cuda")

        def sums(model, batch):
            logits = model(**batch).logits[:, :-1]
            return F.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:], reduction="none").sum(1)

        class Npo(Trainer):
            reference_model = reference

            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
                forget, retain = inputs["forget"], inputs["retain"]
                ours = sums(model, forget)
                with torch.no_grad(), self.accelerator.autocast():
                    theirs = sums(reference, forget)
                beta = 0.1
                loss = -2 / beta * F.logsigmoid(beta * (ours - theirs)).mean()
                with torch.no_grad(), self.accelerator.autocast():
                    wanted = F.log_softmax(reference(**retain).logits, -1).flatten(0, 1)
                got = F.log_softmax(model(**retain).logits, -1).flatten(0, 1)
                return loss + F.kl_div(got, wanted, reduction="batchmean", log_target=True)

        half = self.args.batch_size // 2

        def collate(rows):
            ids = torch.stack([row["input_ids"] for row in rows])
            sides = {"forget": ids[:half], "retain": ids[half:]}
            return {side: {"input_ids": x, "labels": x} for side, x in sides.items()}

        args = TrainingArguments(**self.settings(name, self.args.batch_size), remove_unused_columns=False)
        return Npo(self.model(), args, train_dataset=self.rows, data_collator=collate)

    def make(self, name: str):
        from transformers import PrinterCallback

        rows = self.args.batch_size
        fd = {"meta_gradient": "finite_difference"}
        relearn = {"resistance": "relearn", "lambda_resistance": 0.5}
        build = {
            "plain": lambda: self.plain(name, rows),
            "half": lambda: self.plain(name, rows // 2),
            "off": lambda: self.ready(name, lambda_efficiency=0.0, lambda_retention=0.0),
            "first_order": lambda: self.ready(name),
            "in_turn": lambda: self.ready(name, meta_forward="in_turn"),
            "drawn": lambda: self.ready(name, request_rows=rows // 2),
            "sparse": lambda: self.ready(name, "quarter", meta_rows=0.5, meta_every=4),
            "fd": lambda: self.ready(name, **fd),
            "exact": lambda: self.ready(name, meta_gradient="exact"),
            "steps_3": lambda: self.ready(name, inner_steps=3),
            "fd_steps_3": lambda: self.ready(name, inner_steps=3, **fd),
            "relearn": lambda: self.ready(name, **relearn),
            "fd_relearn": lambda: self.ready(name, **relearn, **fd),
            "align": lambda: self.ready(name, resistance="align", lambda_resistance=0.5),
            "open": lambda: self.unlearn(name, 1e3),
            "together": lambda: self.unlearn(name, 1e3, forget_forward="together"),
            "shut": lambda: self.unlearn(name, 1e-3),
            "shut_8": lambda: self.unlearn(name, 1e-3, gate_every=8),
            "npo": lambda: self.unlearn(name, 1e3, objective="npo"),
            "npo_held": lambda: self.unlearn(name, 1e3, objective="npo", retain_term="kl"),
            "rmu": lambda: self.unlearn(name, 1e3, objective="rmu"),
            "npo_kl": lambda: self.npo_kl(name),
        }
        trainer = build[name]()
        trainer.remove_callback(PrinterCallback)
        return trainer
