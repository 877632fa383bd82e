"""The flags of `evaluate`: its own, and those of the attacks and benchmarks, which are declared in their files."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, make_dataclass
from functools import partial
from typing import get_type_hints

from ..evaluation import attack_names
from ..evaluation.attacks.registry import attacks
from ..evaluation.benchmarks.registry import BENCHMARKS
from ..evaluation.roles import ROLES
from .from_flags import FromFlags


@dataclass
class _EvaluateArguments(FromFlags):
    output_dir: str = field(
        default="outputs",
        metadata={
            "metavar": "FOLDER",
            "help": "Folder with the models by role; scorecard.json and report.html go there.",
        },
    )
    models: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "ROLE=MODEL",
            "help": "Models to measure instead of those in OUTPUT_DIR, whoever made them: ROLE=FOLDER or ROLE=HUB_ID, "
            f"ROLE one of {', '.join(ROLES)}.",
        },
    )
    tables: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "ROLE=FOLDER",
            "help": "ROLE=FOLDER of row tables (OUTPUT_DIR/tables/ROLE) that an earlier evaluation saved, for models "
            "that are gone or would take long again.",
        },
    )
    processing_from: str | None = field(
        default=None,
        metadata={
            "metavar": "MODEL",
            "help": "Tokenizer or processor, where the checkpoints bring none: folder or hub id.",
        },
    )
    attacks: list[str] = field(
        default_factory=attack_names,
        metadata={
            "help": "What is done with the models beside reading losses, by an attacker or to see harm: some of "
            f"{', '.join(attack_names())}; none. Leave some out to save time."
        },
    )
    benchmarks: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "NAME=WHERE",
            "help": "Published benchmarks of language models to measure, too, or alone where no rows are named: "
            f"{'; '.join(f'{one.name}={one.where}' for one in BENCHMARKS.values())}. Alone, the results go to "
            "OUTPUT_DIR/benchmarks.",
        },
    )
    general_dataset: str = field(
        default="auto",
        metadata={
            "metavar": "NAME",
            "help": "causal_lm: texts that have nothing to do with the request, on which a model must be as good as "
            "before: a file, a folder or a hub id, as of --dataset_name; where a request was given texts, the half "
            "that it does not train on. auto: those that a request kept beside its result (_general.jsonl) and did not "
            "train on, where there are any; none: none.",
        },
    )
    shadows: int = field(
        default=0,
        metadata={
            "help": "Shadow models for the membership attack U-LiRA: each is trained and unlearned by this "
            "YAML. An even number from 4, such as 16; 0: none, since it takes as many trainings."
        },
    )
    fail_on: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "GATE",
            "help": "Gates that the unlearned model must pass, else the exit status is 3 (for CI): forget_quality, "
            "auc_gap, kept, extraction, over_forgetting; `verdict` for all of these; general; and those of attacks. "
            "Refused before anything is measured: a gate that no model could pass, for want of a retrained model, of "
            "the attack, or of a strong measure (classifiers pass kept and over_forgetting at most, which do not tell "
            "whether rows are remembered). An unknown name lists all.",
        },
    )
    generations: bool = field(
        default=True,
        metadata={
            "help": "Write generations.parquet: prompts and answers in clear, those of the forget rows among them. "
            "--no_generations leaves it out, and the answers to probe questions, too; what is measured by the answers "
            "stays. Then score card and report do not tell either what was named by --forget_values (but classes), "
            "--unseen_ids and --deleted."
        },
    )
    model_cards: bool = field(
        default=True,
        metadata={
            "help": "Write what was measured into the cards (README.md) of the models' folders, in sections of its "
            "own. --no_model_cards leaves the cards as they are."
        },
    )
    title: str | None = field(
        default=None, metadata={"help": "Name of the task in the report. Default: the name of OUTPUT_DIR."}
    )
    per_device_eval_batch_size: int = field(
        default=64, metadata={"help": "Rows of a forward pass on one device. Lower it where memory runs out."}
    )
    max_rows: int = field(
        default=10_000,
        metadata={
            "help": "Rows of a split that are measured, at most, evenly spaced; score card and report say so. More "
            "rows make the intervals narrower, and take longer. Of the retain rows 2000 are measured at most."
        },
    )
    bf16: bool = field(
        default=False,
        metadata={
            "help": "Compute the forward passes in bfloat16, with the weights as they are: faster on GPUs that have "
            "it, and losses are rounded to three digits.",
        },
    )
    use_cpu: bool = field(default=False, metadata={"help": "Run on the CPU though there is a GPU."})
    seed: int = field(
        default=0,
        metadata={"help": "Seed of the confidence intervals and of the rows that each of --shadows trains on."},
    )

    def attack_options(self) -> dict[str, dict]:
        """Attack -> its options by name, as the flags say."""
        found: dict[str, dict] = {}
        for attack, option, _ in attack_flags():
            value = getattr(self, f"{attack}_{option.name}", option.metadata["flag"])  # registered later: no flag
            found.setdefault(attack, {})[option.name] = value
        return found


def attack_flags() -> list[tuple[str, Field, type]]:
    """(attack, option, its type) of the attacks' options that are flags, in the order in which the attacks run."""
    return [
        (attack.name, option, get_type_hints(attack.options)[option.name])
        for attack in attacks()
        for option in (fields(attack.options) if attack.options else ())
        if "flag" in option.metadata
    ]


def benchmark_flags() -> list[tuple[str, Field, type]]:
    """(benchmark, option, its type) of the benchmarks' options, all of which are flags."""
    return [
        (one.name, option, get_type_hints(one.options)[option.name])
        for one in BENCHMARKS.values()
        for option in fields(one.options)
    ]


def _flag(owner: str, option: Field) -> Field:
    """The field of a flag for an option of an attack or a benchmark."""
    default = option.metadata["flag"]
    how = {"default_factory": partial(list, default)} if isinstance(default, tuple) else {"default": default}
    return field(**how, metadata={"help": f"{owner}: {option.metadata['help']}"})


EvaluateArguments = make_dataclass(
    "EvaluateArguments",
    [
        (f"{owner}_{option.name}", kind, _flag(owner, option))
        for owner, option, kind in (*attack_flags(), *benchmark_flags())
    ],
    bases=(_EvaluateArguments,),
    namespace={
        "__doc__": "What `evaluate` measures: the models found in OUTPUT_DIR, by role, or any by --models.",
        "__module__": __name__,
    },
)
