"""Does it fit? Estimates what the verbs need, from a model's config or from a YAML of the other verbs.

hf-unlearn memory --config my.yaml --memory 24GB
hf-unlearn memory --model meta-llama/Llama-3.1-8B --peft lora:r=16 --batch_size 1 --length 4096
"""

from __future__ import annotations

import sys

from ..memory.__main__ import build_parser, report
from ..memory.__main__ import main as estimate_main
from ..memory.run import STEP_VERBS, Run
from ..utils.checks import raise_problems
from ..utils.flags import with_underscores
from . import checks, model, parsing, prepare, terminal
from .adapters import is_pattern, names_of
from .arguments import ESTIMATE, TRAINS_NOTHING, DataArguments, ModelArguments
from .reading import Given, read_words, read_yaml

OF_THE_NAME = ("revision", "trust_remote_code")  # flags that go with the model's name
LOADING = (
    *OF_THE_NAME,
    "attn_implementation",
    "load_in_4bit",
    "bnb_4bit_use_double_quant",
    "bnb_4bit_compute_dtype",
)
PROGRAM = "hf-unlearn memory"
OF_A_FILE = (
    "With --config FILE.yaml: the sizes of that recipe; the flags below win over them, and so do keys such as\n"
    "`memory.engine` in the file. --print_config prints what was read, as YAML.\n\n"
)


def main(argv: list[str]) -> int:
    """The exit status: 0, or 1 where nothing could be estimated or it does not fit."""
    asks_for_help = bool({"-h", "--help"} & set(argv))
    if not asks_for_help:
        terminal.say(first_line(argv))
    if asks_for_help or not parsing.names_a_file(argv):
        if asks_for_help:
            sys.stdout.write(OF_A_FILE)
        return estimate_main(argv, PROGRAM)
    own, of_recipe = divided(argv)
    if not names_a_recipe(of_recipe):
        return estimate_main(own, PROGRAM)
    values = vars(build_parser(PROGRAM).parse_args(with_underscores(own)))
    memory, as_json, verbs = values.pop("memory"), values.pop("json"), values.pop("verb")
    typed = {one.plain_name for one in read_words(own)[0]}
    runs, of_models = [], []
    for verb in STEP_VERBS:
        if verb in verbs:
            known = recipe_values(verb, of_recipe, bool(typed & {"model", "model_type"}), of_models)
            run = Run(**{**values, "verb": verb, **{k: v for k, v in known.items() if k not in typed - {"verb"}}})
            runs += [run] if run not in runs else []
    return report(runs, memory, as_json)


def first_line(argv: list[str]) -> str:
    """What is going to be done, from the words alone."""
    verbs = parsing.word_of("memory", argv, "verb", " ".join(STEP_VERBS)).split()
    return f"hf-unlearn memory: takes one step of {', '.join(verbs)} on tensors without data"


def divided(argv: list[str]) -> tuple[list[str], list[str]]:
    """
    Words of the estimate's own flags, on the command line and as `memory.name` in the file, and those of the recipe.

    Raises:
        ArgumentError: if the file cannot be read or has an unknown key `memory.name`, or a word belongs to no flag.
    """
    own = own_flags(argv)
    rest = [one for one in read_words(argv)[0] if one.prefix not in ("", "memory.") or one.name not in ESTIMATE]
    return [word for one in own for word in in_words(one)], [w for one in rest for w in (f"--{one.key}", *one.words)]


def own_flags(argv: list[str]) -> list[Given]:
    """The estimate's own flags; raises as [`divided`]."""
    flags, problems = parsing.chosen("memory", argv)
    alone = [one for one in flags if one.alone]
    problems += [
        parsing.not_there(one, "memory", sorted(ESTIMATE))
        for one in alone
        if one.prefix == "memory." and one.name not in ESTIMATE
    ]
    raise_problems(problems)
    return [one for one in alone if one.name in ESTIMATE and one.words != ["null"]]


def in_words(one: Given) -> list[str]:
    """A flag as the estimate reads it: `memory.json: true` of a file is --json."""
    if one.file is not None and one.words in (["true"], ["false"]):
        return [f"--{one.name}" if one.words == ["true"] else f"--no_{one.name}"]
    return [f"--{one.name}", *one.words]


def names_a_recipe(words: list[str]) -> bool:
    """Whether there is more than a file whose keys are all the estimate's own."""
    files = [one for one in read_words(words)[0] if one.name == "config"]
    keys = [key for one in files for path in one.words for key in read_yaml(path)[0]]
    return len(files) < len(read_words(words)[0]) or any(one.prefix != "memory." for one in keys)


def recipe_values(
    verb: str, argv: list[str], model_is_typed: bool = False, of_models: list[tuple] | None = None
) -> dict:
    """
    What a recipe says of a run: fields of [`hf_unlearn.memory.run.Run`].

    Args:
        model_is_typed: the command line names another model; the recipe's is not asked for.
        of_models: `(data, model, what they came to)` of the verbs before, and then of this one: verbs of the same rows
            and model read the rows once.

    Raises:
        ArgumentError: if the flags are wrong, or the rows, which tell the sizes of a new model, cannot be read.
    """
    kind = "unlearn" if verb == "unlearn" else "ready"

    def flag_problems(own, data: DataArguments, model_args: ModelArguments, args=None) -> list[str]:
        return checks.data_problems(data, model_args) + model.model_problems(data, model_args)

    words = [*argv, "--output_dir", ".", *TRAINS_NOTHING]
    own, data, model_args, args = parsing.parse(kind, words, flag_problems, asked="memory")
    of_models = [] if of_models is None else of_models
    known = next((found for *asked, found in of_models if asked == [data, model_args]), None)
    if known is None:
        known = model_values(data, model_args, model_is_typed)
        of_models.append((data, model_args, known))
    return {**known, "dtype": dtype_of(model_args, args.bf16), **step_values(verb, own, data, args)}


def model_values(data: DataArguments, chosen: ModelArguments, is_typed: bool = False) -> dict:
    """The task and the adapter, and unless another is typed the model, with the sizes that rows give to a new one."""
    found: dict = {"task": data.task}
    if chosen.lora_r:
        found["peft"] = adapter_text(chosen)
    found |= {name: getattr(chosen, name) for name in LOADING if getattr(chosen, name)}
    if is_typed:
        return {name: value for name, value in found.items() if name not in OF_THE_NAME}
    if chosen.model_name_or_path:
        return {**found, "model": chosen.model_name_or_path}
    sizes = model.model_settings(chosen.model_type, chosen.config_overrides)
    rows = prepare.prepare(data, chosen)
    if rows.image_size:
        sizes |= {"image_size": rows.image_size, "num_channels": rows.num_channels}
    elif data.task in ("causal_lm", "sequence_classification"):
        sizes.setdefault("vocab_size", len(rows.processing_class))
    if length := rows.recipe.get("max_length"):
        found["length"] = length
    if rows.labels:
        sizes["num_labels"] = len(rows.labels)
    given = ",".join(f"{key}={value}" for key, value in sizes.items() if value is not None)
    return {**found, "model_type": chosen.model_type, "config_overrides": given}


def adapter_text(chosen: ModelArguments) -> str:
    """The adapter of the flags, as `--peft` takes it."""
    words = chosen.lora_target_modules
    values = {"r": chosen.lora_r, "lora_alpha": chosen.lora_alpha}
    values["target_modules"] = words if is_pattern(words) else words.replace(",", "+")
    if whole_ones := names_of(chosen.lora_modules_to_save):
        values["modules_to_save"] = "+".join(whole_ones)
    values |= {name: "true" for name in ("use_rslora", "use_dora") if getattr(chosen, name)}
    return "lora:" + ",".join(f"{name}={value}" for name, value in values.items())


def dtype_of(chosen: ModelArguments, bf16: bool) -> str:
    """The type of weights and passes, as `--dtype` of the estimate names it."""
    if chosen.dtype in ("bfloat16", "auto"):
        return chosen.dtype
    return "bf16-mixed" if bf16 else "float32"


def step_values(verb: str, own, data: DataArguments, args) -> dict:
    """
    The step of a training or a request.

    Args:
        verb: train, ready or unlearn.
        own: `ReadyArguments` or `UnlearnArguments`.
        args: `ReadyConfig` or `UnlearnConfig`.
    """
    found = {
        "batch_size": args.per_device_train_batch_size,
        "eval_batch_size": args.per_device_eval_batch_size,
        **({"length": data.max_length} if data.max_length else {}),
        "gradient_checkpointing": bool(args.gradient_checkpointing),
        "optim": str(getattr(args.optim, "value", args.optim)),
    }
    if verb == "unlearn":
        together = {"together": True, "in_turn": False}.get(args.forget_forward)
        return {**found, "resistance": args.resistance, "together": together}
    drawn = bool(args.request_rows) and (own.revocable == "named" or bool(args.request_group))
    if verb == "train" or not args.readiness_is_on:  # under a replay's order a step is that of any training
        return {**found, "drawn": drawn, "verb": "train"}
    return {
        **found,
        "drawn": drawn,
        "request_rows": int(args.request_rows) if drawn else None,
        "meta_gradient": args.meta_gradient,
        "inner_steps": int(args.inner_steps),
        "resistance": args.resistance,
    }
