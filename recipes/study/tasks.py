"""What the study runs: its tasks, its arms, and what models of an arm are asked."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[1]  # recipes/


@dataclass(frozen=True)
class StudyTask:
    """
    A recipe and how it is asked.

    Args:
        recipe: YAML file.
        flags: more flags; `{digit}`, `{authors}`, `{intents}`, `{animal}` (by the seed) and `{data}` are filled in.
        goal: "unseen" or "chance", when rows count as forgotten ([`recipes.study.trial.RequestRows`]).
        by: column whose values a request names; None: single rows.
        rates: learning rates of a request.
        beyond: more of them, for ∇τ on plain, ready and equal models alone: whether the best one lies at an end, or
            between two.
        arms: names of arms; None: all.
        attack: learning rate of the fine-tunes that bring rows back.
        adapters: requests are also tried with a LoRA adapter of rank 16.
        thorough: plain, ready and equal models are asked by all methods and in all scenarios; else plain ones alone, by
            all methods.
        judged_at: learning rates at which plain models, unlearned with each gap, are held against retrained ones.
        tested_on: more flags that give other rows to test on than those held out of the task's; None: these.
        base: models are trained on top of one that was trained on so many other people ([`recipes.study.base`]), but
            for the recipe's unseen share of them; 0: models are new.
        schedule: of learning rates, where a training has none of its own.
        smoke_rows: that a smoke run reads; None: all, where the first ones lack what is asked for.
        role: "chooses": the defaults were chosen by it; "confirms": it was not looked at for that; "": neither is said.
    """

    recipe: str
    goal: str
    by: str | None = None
    flags: str = ""
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    beyond: tuple[float, ...] = ()
    arms: tuple[str, ...] | None = None
    attack: float = 1e-3
    adapters: bool = False
    thorough: bool = False
    judged_at: tuple[float, ...] = ()
    tested_on: str | None = None
    base: int = 0
    schedule: str = "cosine"
    smoke_rows: int | None = 160
    role: str = ""


@dataclass(frozen=True)
class Arm:
    """
    How a model is trained.

    Args:
        role: of recipes/ready.py; None: no model is trained, others are judged.
        flags: `ReadyConfig` flags over the recipe's; `{by}` is the task's column.
        like: with the gradient passes of that arm; of retraining, with its steps.
        forget_weight: weight of the revocable rows' loss relative to the others'.
        everything: more than ∇τ is tried on it.
    """

    role: str | None = "ready"
    flags: str = ""
    like: str | None = None
    forget_weight: float = 1.0
    everything: bool = False


VERDICT = "verdict"  # on the unlearned plain model, against retrained ones
ARMS = {
    "retrained": Arm("retrained"),
    "retrained again": Arm("retrained_again"),
    "plain": Arm("original", everything=True),
    "ready": Arm(everything=True),
    "equal": Arm("original", like="ready", everything=True),
    "reweighted": Arm("original", forget_weight=0.5),
    "finite difference": Arm(flags="--meta_gradient finite_difference"),
    "batch rows": Arm(flags="--request_rows 0"),
    "smaller step": Arm(flags="--inner_lr 0.003"),
    "half step": Arm(flags="--inner_lr 0.005"),
    "stronger": Arm(flags="--inner_lr 0.003 --lambda_efficiency 0.2"),
    "every other": Arm(flags="--request_rows 32 --meta_every 2"),
    "no cap": Arm(flags="--gain_cap 100"),
    "no efficiency": Arm(flags="--lambda_efficiency 0"),
    "no retention": Arm(flags="--lambda_retention 0"),
    "relearn": Arm(flags="--resistance relearn --lambda_resistance 0.1"),
    "align": Arm(flags="--resistance align --lambda_resistance 0.1"),
    "any row": Arm(flags="--revocable any"),
    "any group": Arm(flags="--revocable any --request_group {by}"),
    "any group far": Arm(flags="--revocable any --request_group {by} --inner_steps 3 --inner_lr 0.01"),
    "retrained as long": Arm("retrained", like="plain"),
    "retrained as long again": Arm("retrained_again", like="plain"),
    VERDICT: Arm(None),
}
YARDSTICKS = {  # of verdicts: a retrained model, and one with another seed
    "as many epochs": ("retrained", "retrained again"),
    "as many steps": ("retrained as long", "retrained as long again"),
}
JUDGES = ("retrained again", *YARDSTICKS["as many steps"], VERDICT)  # for tasks with `judged_at` alone
BASELINES = ("gradient_ascent", "grad_diff", "npo")  # the study's choice of objectives beside ∇τ: those that were run
FOR_ADAPTERS = ("half step",)  # the default of all weights
MAIN = ("plain", "ready", "equal")
FEW = (*MAIN, "any group")
CIFAR = (
    "--data_files {data}/cifar10 --limit 2000 --test_split null --test_fraction 0.2 "
    "--ready.num_train_epochs 40 "
    "--config_overrides hidden_size=128,intermediate_size=256,num_hidden_layers=3,num_attention_heads=4,patch_size=8 "
)
CIFAR_TEST = "--test_split test --limit 6000"  # 400 rows do not know an accuracy of 30 % to one part in a hundred
INTENTS = (
    "card_arrival", "card_linking", "exchange_rate", "lost_or_stolen_card", "age_limit", "pin_blocked", "top_up_limits",
    "card_not_working", "cancel_transfer", "automatic_top_up",
)  # fmt: skip
PEOPLE = "text/people_llama.yaml"
NOT_NEW = "--model_type null --config_overrides null --vocab_size null "
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
LOW = (1e-4, 3e-4, 1e-3)


def _of_cifar10(share: float, arms: tuple[str, ...]) -> StudyTask:
    return StudyTask(
        "vision/cifar10_vit_random.yaml",
        "unseen",
        flags=f"{CIFAR}--forget_fraction {share}",
        rates=(1e-4, 2e-4, 3e-4, 1e-3),
        arms=arms,
        judged_at=(5e-5, 1e-4, 2e-4),
        tested_on=CIFAR_TEST,
        role="confirms",
    )


def _of_digits(share: float, **more) -> StudyTask:
    return StudyTask("vision/digits_vit_random.yaml", "unseen", flags=f"--forget_fraction {share}", arms=MAIN, **more)


def _of_people(share: float) -> StudyTask:
    return StudyTask(PEOPLE, "unseen", by="person", flags=f"--forget_fraction {share}", rates=(3e-4, 1e-3), arms=MAIN)


def _of_people_rows(share: float) -> StudyTask:
    flags = f"--forget_by random --forget_column id --forget_fraction {share}"
    return StudyTask(PEOPLE, "unseen", flags=flags, rates=(3e-4, 1e-3), arms=("plain",), judged_at=(3e-4, 1e-3, 3e-3))


BANKING77 = StudyTask(
    "text/banking77_bert.yaml",
    "chance",
    by="labels",
    flags="--data_files {data}/banking77 --limit 3000 --test_split null --test_fraction 0.1 --forget_values {intents}",
    arms=FEW,
    attack=3e-4,
    schedule="linear",
    smoke_rows=None,  # they are sorted by intent
    role="confirms",
)
TASKS = {
    "digits": StudyTask(
        "vision/digits_vit.yaml",
        "chance",
        by="labels",
        flags="--forget_values {digit}",
        attack=3e-4,
        thorough=True,
        role="chooses",
    ),
    "people": StudyTask(
        PEOPLE, "unseen", by="person", rates=(3e-4, 1e-3), beyond=(2e-3,), thorough=True, role="chooses"
    ),
    "people LoRA": StudyTask(
        PEOPLE,
        "unseen",
        by="person",
        flags=NOT_NEW + "--lora_r 32 --lora_alpha 64 --ready.num_train_epochs 56",
        rates=(3e-4, 1e-3, 3e-3),
        beyond=(2e-3,),
        arms=(*MAIN, *FOR_ADAPTERS),
        base=480,
        role="chooses",
    ),
    "tofu": StudyTask(
        "text/tofu_llama.yaml",
        "unseen",
        by="author",
        flags="--data_files {data}/tofu/full.jsonl --limit 600 "
        "--config_overrides hidden_size=128,intermediate_size=344,num_hidden_layers=2,num_attention_heads=4 "
        "--forget_values {authors}",
        rates=(3e-4, 1e-3),
        beyond=(1e-4, 2e-3),
        arms=(*FEW, "no cap"),
        adapters=True,
        role="chooses",
    ),
    "banking77": BANKING77,
    "cifar10": StudyTask(
        "vision/cifar10_vit_class.yaml",
        "chance",
        by="labels",
        flags=CIFAR + "--forget_values {animal}",
        rates=(1e-4, 3e-4, 1e-3),
        beyond=(3e-5,),
        arms=FEW,
        attack=3e-4,
        tested_on=CIFAR_TEST,
        role="confirms",
    ),
    "cifar10 10 %": _of_cifar10(0.1, MAIN),
    "cifar10 30 %": _of_cifar10(0.3, ("plain",)),
    "digits 1 %": _of_digits(0.01),
    "digits 5 %": _of_digits(0.05),
    "digits 10 %": _of_digits(0.1, judged_at=LOW, role="chooses"),
    "digits 30 %": _of_digits(0.3, judged_at=LOW),
    "banking77 MiniLM": replace(
        BANKING77,
        flags=NOT_NEW + "--model_name_or_path {data}/minilm-l6 --data_files {data}/banking77 --limit 1800 "
        "--test_split null --test_fraction 0.1 --forget_values age_limit card_linking --ready.num_train_epochs 4 "
        "--ready.learning_rate 2e-4 --ready.per_device_train_batch_size 32 --ready.warmup_steps 20",
        attack=1e-4,
    ),
    "people SmolLM2": StudyTask(
        PEOPLE,
        "unseen",
        by="person",
        flags=NOT_NEW + "--model_name_or_path {data}/smollm2-135m --limit 120 --lora_r 16 --lora_alpha 32 "
        "--ready.num_train_epochs 10 --ready.per_device_train_batch_size 12 --ready.learning_rate 1e-3",
        arms=FEW,
        attack=1e-3,
        role="confirms",
    ),
    "people rows 10 %": _of_people_rows(0.1),
    "people rows 30 %": _of_people_rows(0.3),
    "people 1 %": _of_people(0.01),
    "people 5 %": _of_people(0.05),
    "people 30 %": _of_people(0.3),
}
PRETRAINED = ("banking77 MiniLM", "people SmolLM2")  # of the study of replays alone


def flags_of(task: StudyTask, seed: int, data: str | None, smoke: bool, base: str = "BASE") -> list[str]:
    """
    Flags of recipes/ready.py for the rows of a seed: another seed splits otherwise.

    Args:
        base: folder of the model that a task with `base` starts from.
    """
    rng = random.Random(seed)
    filled = task.flags.format(
        digit=(3 + seed) % 10,
        authors=" ".join(map(str, sorted(rng.sample(range(30), 3)))),
        intents=" ".join(sorted(rng.sample(INTENTS, 2))),
        animal=ANIMALS[seed % len(ANIMALS)],
        data=data,
    )
    flags = ["--config", str(RECIPES / task.recipe), "--split_seed", str(seed), *filled.split()]
    flags += ["--ready.lr_scheduler_type", task.schedule]
    flags += ["--model_name_or_path", base] if task.base else []
    if not smoke:
        return flags
    return [*flags, "--ready.max_steps", "4", *(["--limit", str(task.smoke_rows)] if task.smoke_rows else [])]


def requests_of(task: StudyTask, arm_name: str):
    from recipes.study.trial import Request

    arm = ARMS[arm_name]
    asked = [Request(rate) for rate in (*task.rates, *(task.beyond if arm.everything else ()))]
    if arm.everything and (task.thorough or arm_name == "plain"):
        asked += [Request(rate, objective) for objective in BASELINES for rate in task.rates]
    if arm.everything and task.adapters:
        asked += [Request(rate, adapter=True) for rate in task.rates]
    return asked


def arms_of(name: str, wanted: tuple[str, ...] | None = None) -> list[str]:
    """Those of the arms that a task has: all that make sense by default."""
    task = TASKS[name]
    arms = list(wanted or task.arms or ARMS)
    if not wanted and task.arms:
        arms += JUDGES
    arms = arms if task.base else [arm for arm in arms if arm not in FOR_ADAPTERS]
    arms = arms if task.judged_at else [arm for arm in arms if arm not in JUDGES]
    return arms if task.by else [arm for arm in arms if "{by}" not in ARMS[arm].flags]


def needed_by(arm: str) -> set[str]:
    """Arms whose cells must be there before an arm's; a retrained model's too, which the page sets it against."""
    role, like = ARMS[arm].role, ARMS[arm].like
    if role is None:
        return {"plain", *(name for pair in YARDSTICKS.values() for name in pair)}
    if role.startswith("retrained") and not like:
        return set()
    return {"retrained", "plain", *([like] if like else [])} - {arm}
