"""What the three scripts share: flags and YAML, rows split and encoded, models built or loaded."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

VERBS = ("ready", "unlearn", "evaluate")
ROLES = ("original", "ready", "unlearned", "ready_unlearned", "retrained", "retrained_again")
ATTACKS = ("generate", "quantise", "relearn", "weights")
RELEARNING = {"steps": 30, "learning_rate": 1e-3}  # for the recipes' small models; a hub model wants a smaller rate
PROCESSING = "preprocessor_config.json"


@dataclass
class DataArguments:
    """Which rows, and which of them are to be forgotten. The same values for all three scripts give the same split."""

    task: str = field(
        default="causal_lm",
        metadata={"help": "causal_lm, sequence_, image_ or audio_classification."},
    )
    dataset_name: str = field(
        default="people",
        metadata={"help": "people, digits; tofu, banking77, cifar10, fsdd (--data_files); a path; a hub id."},
    )
    data_files: str | None = field(default=None, metadata={"help": "Local file or folder to read the rows from."})
    limit: int | None = field(default=None, metadata={"help": "Read only the first so many rows."})
    test_split: str | None = field(default=None, metadata={"help": "Name of a split to test on, e.g. test."})
    test_fraction: float = field(default=0.0, metadata={"help": "Or: share of the rows to test on."})
    question_column: str = field(default="question", metadata={"help": "causal_lm: what is asked."})
    answer_column: str = field(default="answer", metadata={"help": "causal_lm: what is learnt."})
    text_column: str = field(default="text", metadata={"help": "sequence_classification: the text."})
    image_column: str = field(default="image", metadata={"help": "image_classification: the image."})
    audio_column: str = field(default="audio", metadata={"help": "audio_classification: the recording."})
    sampling_rate: int = field(default=16_000, metadata={"help": "Sound for a new model, in Hz; resampled to it."})
    max_seconds: float = field(default=1.0, metadata={"help": "Sound: the length of a row; longer ones are cut."})
    label_column: str = field(default="label", metadata={"help": "Classifiers: the class."})
    max_length: int = field(default=256, metadata={"help": "Tokens of a row at most."})
    forget_by: str = field(default="column", metadata={"help": "id, class, column or random."})
    forget_column: str | None = field(default=None, metadata={"help": "Column that holds the values."})
    forget_values: list[str] | None = field(default=None, metadata={"help": "Ids, classes or values to forget."})
    forget_fraction: float | None = field(default=None, metadata={"help": "Or: share of rows or of values to forget."})
    unseen_group: str | None = field(default=None, metadata={"help": "Keep whole groups of this column unseen."})
    unseen: float = field(default=0.1, metadata={"help": "Share of the rows that is never trained on."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the split."})


@dataclass
class ModelArguments:
    """Which model: an existing one, or a new one from a small config. And whether an adapter is trained."""

    model_name_or_path: str | None = field(default=None, metadata={"help": "Hub id or folder."})
    model_type: str | None = field(default=None, metadata={"help": "New model of this type: llama, bert, vit, …"})
    config_overrides: str = field(default="", metadata={"help": "Its sizes: hidden_size=128,num_hidden_layers=3"})
    vocab_size: int = field(default=2000, metadata={"help": "Of the tokenizer that is trained for a new text model."})
    lora_r: int = field(default=0, metadata={"help": "Rank of a LoRA adapter to train; 0: all weights."})
    lora_alpha: int = field(default=32, metadata={"help": "Its scale."})
    lora_target_modules: str = field(default="all-linear", metadata={"help": "Its modules, separated by commas."})


@dataclass
class ReadyScript:
    """What `ready.py` trains. The result goes to OUTPUT_DIR/ROLE."""

    role: str = field(
        default="ready",
        metadata={
            "help": "ready; original: plain training; retrained: plain training without the forget rows; "
            "retrained_again: the same with the next seed, which shows how far two retrained models differ."
        },
    )
    revocable: str = field(
        default="named",
        metadata={"help": "named: the rows that the split calls forget are revocable; any: any row may be asked for."},
    )


@dataclass
class UnlearnScript:
    """What `unlearn.py` starts from: --model_name_or_path, or else OUTPUT_DIR/START."""

    start: str = field(
        default="ready",
        metadata={"help": "ready or original; the result goes to OUTPUT_DIR/ready_unlearned or OUTPUT_DIR/unlearned."},
    )


@dataclass
class EvaluateScript:
    """What `evaluate.py` measures: the models found in OUTPUT_DIR, by role, or any by --models."""

    output_dir: str = field(default="outputs", metadata={"help": "Folder with the models; gets the scorecard too."})
    models: list[str] | None = field(
        default=None, metadata={"help": "ROLE=FOLDER or ROLE=HUB_ID, instead of those in OUTPUT_DIR."}
    )
    tables: list[str] | None = field(
        default=None, metadata={"help": "ROLE=FOLDER of saved row tables (OUTPUT_DIR/tables/ROLE) for a model."}
    )
    processing_from: str | None = field(
        default=None, metadata={"help": "Tokenizer or processor for checkpoints that bring none: folder or hub id."}
    )
    attacks: list[str] = field(
        default_factory=lambda: list(ATTACKS),
        metadata={"help": "What is done beside the passes: generate, quantise, relearn, weights; none."},
    )
    relearn_steps: int = field(
        default=RELEARNING["steps"], metadata={"help": "Steps of each fine-tune of an attacker."}
    )
    relearn_learning_rate: float = field(
        default=RELEARNING["learning_rate"], metadata={"help": "Its learning rate; a hub model wants a smaller one."}
    )
    generate_rows: int = field(default=100, metadata={"help": "Rows of a split that are generated at most."})
    shadows: int = field(
        default=0, metadata={"help": "U-LiRA with so many shadow models, each trained and unlearned by this YAML."}
    )
    fail_on: list[str] | None = field(
        default=None,
        metadata={
            "help": "Gates that must be passed, else the exit status is 3: forget_quality, auc_gap, kept, extraction, "
            "over_forgetting, recovery, quantisation; verdict: the first five."
        },
    )
    title: str | None = field(default=None, metadata={"help": "Name of the task in the scorecard."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Rows a forward pass."})
    seed: int = field(default=0, metadata={"help": "Of the bootstrap, and of the attackers' rows."})


# ---- flags ----------------------------------------------------------------------------------------------------------


def read_flags(verb: str, argv: list[str]) -> list[str]:
    """
    Flags of the command line over those of `--config FILE.yaml`; in each, a key `verb.name` is for that script only
    and wins there over a plain `name`.

    Raises:
        SystemExit: with one line, if the file is not there or is not flat.
    """
    argv, flags, config = list(argv), [], None
    if "--config" in argv:
        place = argv.index("--config")
        if place + 1 == len(argv):
            sys.exit("--config needs the path of a YAML file")
        config = argv[place + 1]
        del argv[place : place + 2]
    pairs: list[tuple[str, list[str]]] = []
    typed: list[tuple[str, list[str]]] = []
    if config is not None:
        import yaml

        if not Path(config).is_file():
            sys.exit(f"--config: there is no file {config!r}")
        try:
            content = yaml.safe_load(Path(config).read_text()) or {}
        except yaml.YAMLError as error:
            sys.exit(f"{config} is no YAML: {error}")
        if not isinstance(content, dict):
            sys.exit(f"{config} must hold `key: value` lines, a key is a flag")
        for key, value in content.items():
            if isinstance(value, dict):
                sys.exit(f"{config}: {key!r} holds a mapping; the file is flat, a key is a flag")
            values = value if isinstance(value, list) else [value]
            pairs.append((str(key), ["null" if v is None else str(v) for v in values]))
    for word in argv:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            typed.append((key, [value] if value else []))
        elif typed:
            typed[-1][1].append(word)
        else:
            sys.exit(f"{word!r} is no flag; flags begin with --")
    chosen: dict[str, list[str]] = {}
    for source, own_turn in ((pairs, False), (pairs, True), (typed, False), (typed, True)):  # later ones win
        for key, values in source:
            prefix, _, name = key.partition(".")
            own = prefix in VERBS and bool(name)
            if own == own_turn and (not own or prefix == verb):
                chosen[(name if own else key).replace("-", "_")] = values
    for key, values in chosen.items():
        if values != ["null"]:
            flags += [f"--{key}", *values]
    return flags


def parse(verb: str, script: type, argv: list[str], config: str | None = None, description: str = "", check=None):
    """
    `(script arguments, DataArguments, ModelArguments[, training config])` from the command line.

    Args:
        config: name of the config class in `hf_unlearn`, or None. `--help` shows its own options without loading it.
        check: called with the first three where a flag is wrong, for what is wrong with the rows beside it.

    Raises:
        ArgumentError: with all problems of the flags, and of the rows by `check`.
    """
    from transformers.hf_argparser import HfArgumentParser

    kinds = [script, DataArguments, ModelArguments]
    if {"-h", "--help"} & set(argv):
        epilog = "A YAML file takes the same keys (--config FILE); a key like `ready.seed` is for that script only."
        if config is not None:
            from hf_unlearn import options

            kinds.append(getattr(options, config.replace("Config", "Options")))
            epilog += " All flags of transformers.TrainingArguments work too: --output_dir, --learning_rate, …"
        HfArgumentParser(kinds, description=description, epilog=epilog).parse_args(["--help"])
    flags = read_flags(verb, argv)
    import hf_unlearn

    parser = HfArgumentParser(kinds + ([getattr(hf_unlearn, config)] if config else []))
    unknown = [word for word in parser.parse_known_args(flags)[1] if word.startswith("--")]
    problems = [f"There is no flag {', '.join(unknown)}; `--help` lists them."] if unknown else []
    try:
        *values, _ = parser.parse_args_into_dataclasses(flags, return_remaining_strings=True)
    except ValueError as error:  # of the training config
        problems += problems_in(error)
        *values, _ = HfArgumentParser(kinds).parse_args_into_dataclasses(flags, return_remaining_strings=True)
    if problems:
        gather(lambda: fail(problems), *([lambda: check(*values[:3])] if check else []))
    return tuple(values)


def problems_in(error: Exception) -> list[str]:
    return getattr(error, "problems", [str(error)])


def fail(problems: list[str]) -> None:
    """Raises an `ArgumentError` if there are any."""
    from hf_unlearn import ArgumentError

    if problems:
        raise ArgumentError(problems)


def gather(*checks) -> list:
    """
    Results of the checks, each called without arguments.

    Raises:
        ArgumentError: with the problems of all of them.
    """
    results, problems = [], []
    for check in checks:
        try:
            results.append(check())
        except (ValueError, OSError) as error:
            problems += [problem for problem in problems_in(error) if problem not in problems]
    fail(problems)
    return results


def processes():
    """The processes of this launch; on a machine without an accelerator `PartialState()` alone would see one."""
    import torch
    from accelerate import PartialState

    return PartialState() if torch.accelerator.is_available() else PartialState(cpu=True)


def run(main) -> None:
    """Calls a script's main; what a user can mend is one message and exit 1, without a traceback."""
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("HF_UNLEARN_TRACEBACK"):
            raise
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


# ---- rows and models ------------------------------------------------------------------------------------------------


@dataclass
class Prepared:
    """Encoded rows by split, and what a model of them needs."""

    splits: dict
    processing_class: object
    labels: list[str] | None
    image_size: int | None = None
    num_channels: int | None = None


def prepare(data: DataArguments, model: ModelArguments, processing_from: str | None = None) -> Prepared:
    """
    Reads, splits and encodes the rows.

    Args:
        processing_from: folder or hub id of the tokenizer, image processor or feature extractor; None: made from the
            data.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the split and the rows, at once.
    """
    from hf_unlearn import split
    from recipes import sources

    rows, test = gather(
        lambda: sources.load_rows(data.dataset_name, data.data_files),
        lambda: sources.load_rows(data.dataset_name, data.data_files, data.test_split) if data.test_split else None,
    )
    if data.limit:
        rows = rows.select(range(min(data.limit, len(rows))))
        test = test and test.select(range(min(data.limit, len(test))))
    if data.test_fraction and test is None:
        halves = rows.train_test_split(test_size=data.test_fraction, seed=data.split_seed)
        rows, test = halves["train"], halves["test"]
    column = data.forget_column
    if data.forget_by == "class" and column is None:
        column = data.label_column

    try:
        parts = split(
            rows,
            by=data.forget_by,
            values=data.forget_values,
            fraction=data.forget_fraction,
            column=column,
            group=data.unseen_group,
            seed=data.split_seed,
            unseen=data.unseen,
        )
    except ValueError as error:  # beside it, what is wrong with the rows themselves
        problems = problems_in(error)
        gather(lambda: fail(problems), lambda: _encode(data, model, rows, {"retain": rows}, processing_from))
    if test is not None:
        parts["test"] = test
    return _encode(data, model, rows, parts, processing_from)


def _encode(data, model, rows, parts, processing_from) -> Prepared:
    from recipes import sound, sources

    if data.task not in sources.TASKS:
        raise ValueError(f"`--task` is {data.task!r}; it must be one of {', '.join(sources.TASKS)}.")
    inputs = {
        "causal_lm": data.question_column,
        "sequence_classification": data.text_column,
        "image_classification": data.image_column,
        "audio_classification": data.audio_column,
    }
    answers = data.answer_column if data.task == "causal_lm" else data.label_column
    for part in parts.values():
        wanted = (inputs[data.task], answers)
        if missing := [column for column in wanted if column not in part.column_names]:
            raise ValueError(
                f"There is no column {', '.join(map(repr, missing))}; the rows have "
                f"{', '.join(map(repr, part.column_names))}."
            )
    if data.task == "image_classification":
        processor, names = None, None
        if processing_from and Path(processing_from, PROCESSING).is_file():
            from transformers import AutoImageProcessor

            processor = AutoImageProcessor.from_pretrained(processing_from)
        encoded = {}
        for name in ("retain", *(n for n in parts if n != "retain")):
            encoded[name] = sources.encode_images(
                parts[name],
                processor,
                data.image_column,
                data.label_column,
                num_channels=_channels(rows[0][data.image_column]),
                names=names or _class_names(rows, data.label_column),
            )
            names = encoded[name].features["labels"].names
        shape = encoded["retain"].features["pixel_values"].shape
        processor = processor or sources.build_image_processor(shape[-1], shape[0])
        return Prepared(encoded, processor, names, image_size=shape[-1], num_channels=shape[0])

    if data.task == "audio_classification":
        extractor, names = _feature_extractor(data, model, processing_from), _class_names(rows, data.label_column)
        encoded = {
            name: sound.encode_sounds(
                part, extractor, data.audio_column, data.label_column, data.max_seconds, names=names
            )
            for name, part in parts.items()
        }
        return Prepared(encoded, extractor, names)

    if processing_from:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(processing_from)
    else:
        columns = [data.text_column] if data.task != "causal_lm" else [data.question_column, data.answer_column]
        texts = [text for column in columns for text in rows[column]]
        tokenizer = sources.build_tokenizer(texts, model.vocab_size)
    if data.task == "causal_lm":
        encoded = {
            name: sources.encode_qa(part, tokenizer, data.question_column, data.answer_column, data.max_length)
            for name, part in parts.items()
        }
        return Prepared(encoded, tokenizer, None)
    names = _class_names(rows, data.label_column)
    encoded = {
        name: sources.encode_text_classification(
            part, tokenizer, data.text_column, data.label_column, data.max_length, names=names
        )
        for name, part in parts.items()
    }
    return Prepared(encoded, tokenizer, names)


def _class_names(rows, column: str) -> list[str]:
    """Class names in the order of their numbers, from all rows, so that a forgotten class keeps its number."""
    feature = rows.features[column]
    return list(feature.names) if hasattr(feature, "names") else [str(v) for v in sorted(set(rows[column]))]


def _feature_extractor(data, model, processing_from):
    """The model's own, or one for a new model."""
    from recipes import sound, sources

    if processing_from and Path(processing_from).is_dir() and not Path(processing_from, PROCESSING).is_file():
        raise ValueError(f"There is no {PROCESSING} in {processing_from}: sounds need the model's feature extractor.")
    if processing_from:
        from transformers import AutoFeatureExtractor

        return AutoFeatureExtractor.from_pretrained(processing_from)
    settings = sources.model_settings(model.model_type, model.config_overrides)
    return sound.build_feature_extractor(model.model_type, settings, data.sampling_rate, data.max_seconds)


def _channels(image) -> int:
    if hasattr(image, "getbands"):
        return 1 if len(image.getbands()) == 1 else 3
    import numpy as np

    return 1 if np.ndim(image) == 2 else np.shape(image)[-1]


def asked(data: DataArguments) -> str:
    """What was asked for, in a sentence."""
    values = data.forget_values if isinstance(data.forget_values, list) else [data.forget_values]
    listed = ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
    share = f"{100 * data.forget_fraction:g} %" if data.forget_fraction else ""
    if data.forget_by == "random":
        return f"Forget a random {share} of the rows of {data.dataset_name}."
    what = {"class": "class", "id": "id"}.get(data.forget_by, data.forget_column)
    which = f"{what} {listed}" if data.forget_values else f"{share} of the values of {what}"
    return f"Forget the rows of {data.dataset_name} with {which}."


def command_line(script: str, argv: list[str]) -> str:
    import shlex

    return shlex.join(["python", script, *argv])


MAPPINGS = {  # task -> names of the classes that do it
    "causal_lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "sequence_classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "image_classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "audio_classification": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
}


def check_checkpoint(data: DataArguments, labels: list[str] | None, role: str, where: str) -> None:
    """
    What can be said of a checkpoint from its config, before any model is loaded.

    Raises:
        ValueError: if it is no checkpoint, of another kind than the task, or a classifier of other classes.
    """
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    config = folder = _folder(role, where)
    if (folder / "adapter_config.json").is_file():
        from peft import PeftConfig

        config = PeftConfig.from_pretrained(where).base_model_name_or_path
    elif folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f'{where!r} for "{role}" holds no config.json: expected what `save_pretrained` writes.')
    found = AutoConfig.from_pretrained(config if config != folder else where)
    names = set()
    for value in getattr(modeling_auto, MAPPINGS.get(data.task, ""), {}).values():
        names.update([value] if isinstance(value, str) else value)
    kind = (found.architectures or [None])[0]
    if names and kind is not None and config == folder and kind not in names:
        raise ValueError(f'"{role}" ({where}) is a {kind}, which is no model for {data.task}.')
    if labels is None or config != folder:
        return
    own = [str(found.id2label[key]) for key in sorted(found.id2label)]
    generic = all(name.startswith("LABEL_") for name in own)
    if len(own) != len(labels) or (not generic and own != [str(label) for label in labels]):
        other = next((i for i, pair in enumerate(zip(own, labels, strict=False)) if pair[0] != str(pair[1])), None)
        shown = f"; class {other} is {own[other]!r} there and {labels[other]!r} here" if other is not None else ""
        raise ValueError(
            f'Label spaces differ: "{role}" ({where}) has {len(own)} classes, the rows {len(labels)}{shown}. The same '
            "number must mean the same class in the rows and in all models."
        )


def _folder(role: str, where: str) -> Path:
    folder = Path(where).expanduser()
    if not folder.is_dir() and (where.startswith((".", "/", "~")) or where.count("/") > 1):
        raise ValueError(f'There is no folder {where!r} for "{role}".')
    return folder


def processing_of(named: str | None, models: dict[str, str], data: DataArguments) -> str | None:
    """
    Where the tokenizer or processor of several checkpoints comes from: the first that brings one.

    Raises:
        ValueError: if a text checkpoint brings no tokenizer and none is named.
    """
    if named:
        return named
    if data.task in ("image_classification", "audio_classification"):
        return next((where for where in models.values() if Path(where, PROCESSING).is_file()), None)
    for role, where in models.items():
        _folder(role, where)
        _tokenizer(where, role)
    return next(iter(models.values()), None)


def _tokenizer(where: str, role: str):
    from transformers import AutoTokenizer

    files = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")
    missing = Path(where).is_dir() and not any(Path(where, name).is_file() for name in files)
    try:
        if not missing:
            return AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise ValueError(f'The tokenizer of "{role}" ({where}) cannot be loaded: {cause}') from error
    raise ValueError(
        f'The checkpoint of "{role}" ({where}) has no tokenizer, so no rows can be made. Save it beside the '
        "weights, or name one by --processing_from."
    )


def same_tokens(data: DataArguments, prepared: Prepared, role: str, where: str) -> None:
    """
    Raises:
        ValueError: if a checkpoint brings a tokenizer that makes other tokens of the forget rows than were made.
    """
    from recipes import sources

    files = ("tokenizer.json", "tokenizer_config.json")
    if data.task not in ("causal_lm", "sequence_classification") or not Path(where).is_dir():
        return
    if not any(Path(where, name).is_file() for name in files):
        return  # one was named for all
    tokenizer = _tokenizer(where, role)
    rows = prepared.splits["forget"]
    made = rows["input_ids"]
    if data.task == "causal_lm":
        again = sources.encode_qa(rows, tokenizer, data.question_column, data.answer_column, data.max_length)
    else:
        again = sources.encode_text_classification(
            rows, tokenizer, data.text_column, data.label_column, data.max_length, names=prepared.labels
        )
    other = [i for i, (a, b) in enumerate(zip(made, again["input_ids"], strict=True)) if list(a) != list(b)]
    if other:
        raise ValueError(
            f'Unequal tokenisation: the tokenizer of "{role}" ({where}) makes other tokens of {len(other)} of the '
            f"{len(rows)} forget rows (the first is row {other[0]}). Losses per token cannot be compared; models must "
            "share a tokenizer."
        )


def check_model(model: ModelArguments) -> None:
    """
    Raises:
        ArgumentError: with all that can be said of the model's flags without it.
    """
    from recipes import sources

    problems = []
    if bool(model.model_name_or_path) == bool(model.model_type):
        problems.append("Give either --model_name_or_path, or --model_type for a new model.")
    elif model.model_type:
        try:
            sources.model_settings(model.model_type, model.config_overrides)
        except ValueError as error:
            problems += problems_in(error)
    if model.lora_r < 0:
        problems.append(f"`--lora_r` is {model.lora_r}; it must be 0 (all weights) or a rank.")
    fail(problems)


def new_model(data: DataArguments, model: ModelArguments, prepared: Prepared, seed: int):
    """The named model, or a new one from a config; what is drawn of it is the same for the same seed."""
    import torch

    from recipes import sources

    if model.model_name_or_path:
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of a head that is drawn
            return sources.load_model(data.task, model.model_name_or_path, prepared.labels)
    return sources.build_model(
        data.task,
        model.model_type,
        model.config_overrides,
        prepared.processing_class,
        prepared.labels,
        prepared.image_size,
        prepared.num_channels,
        seed,
    )


def train_and_save(trainer):
    """Trains, saves model, state and card, and pushes them where asked to; returns the trainer."""
    resume = trainer.args.resume_from_checkpoint
    trainer.train(resume_from_checkpoint={"true": True, "false": None}.get(str(resume).lower(), resume))
    trainer.save_model()
    trainer.save_state()
    trainer.create_model_card()
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
    trainer.accelerator.wait_for_everyone()  # the files are there for every process
    return trainer


def adapter(data: DataArguments, model: ModelArguments):
    """The `LoraConfig` that the flags describe, or None."""
    if not model.lora_r:
        return None
    from peft import LoraConfig

    modules = model.lora_target_modules
    kinds = {"causal_lm": "CAUSAL_LM", "sequence_classification": "SEQ_CLS"}  # others have no type of their own
    return LoraConfig(
        r=model.lora_r,
        lora_alpha=model.lora_alpha,
        target_modules=modules if modules == "all-linear" else modules.split(","),
        task_type=kinds.get(data.task),
    )
