"""The model that the flags describe: a new one from a config, or one by name; and the adapter to train on it."""

from __future__ import annotations

import ast
import difflib
import re
from typing import TYPE_CHECKING

from ..data.limits import MULTI_LABEL
from ..utils.checks import ArgumentError, Wrong, problems_of, raise_problems
from . import named
from .adapters import adapter, adapter_problems, module_problems, two_adapters
from .arguments import DataArguments, ModelArguments
from .loading import init_of, loading_problems, packed_alone_problems

if TYPE_CHECKING:
    from .prepare import Prepared

SMALL = {  # sizes for a laptop CPU; `config_overrides` wins over them
    "llama": {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 3, "num_attention_heads": 4},
    "bert": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4},
    "vit": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4},
    "audio-spectrogram-transformer": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_mel_bins": 64,
        "frequency_stride": 16,
        "time_stride": 16,
    },
}


def model_problems(
    data: DataArguments, model: ModelArguments, needs_one: bool = True, given: dict | None = None
) -> list[str]:
    """
    What can be said of the model's flags without it.

    Args:
        needs_one: whether a model has to be named, or the type of a new one.
        given: `model_init_kwargs` of the training config.
    """
    problems: list[str] = []
    named, new = bool(model.model_name_or_path), bool(model.model_type)
    typed = model.said_alone("model_name_or_path")  # it wins over what a file says of a new model
    new = new and not (typed and not model.said_alone("model_type"))
    if (named and new) or (needs_one and not named and not new):
        problems.append("Give either --model_name_or_path, or --model_type for a new model.")
    elif new:
        try:
            model_settings(model.model_type, model.config_overrides)
        except ValueError as error:
            problems += problems_of(error)
    if named and not new:
        own = {"config_overrides": "sizes", "vocab_size": "tokenizer"}
        problems += [
            Wrong(name, f"is for a new model; {model.model_name_or_path} brings its own {what}. Leave it out.")
            for name, what in own.items()
            if name in model.changed() and (model.said_alone(name) or not typed)
        ]
    if needs_one:
        problems += packed_alone_problems(model, model.model_name_or_path)
    return problems + adapter_problems(model, is_trained=needs_one) + loading_problems(model, given)


def beginning(
    data: DataArguments, model: ModelArguments, prepared: Prepared, seed: int, given: dict | None = None
) -> tuple:
    """
    `(the model that the flags describe, its new adapter or None)`: what a training begins with. The model is the named
    one, or a new one from a config; what is drawn of it is the same for the same seed.

    Args:
        given: `model_init_kwargs` of the training config.

    Raises:
        ValueError: if it cannot be built, or is a language model that sees the tokens which it is to predict.
    """
    new: list[str] = []
    if not model.model_name_or_path:
        found = _built(data, model, prepared, seed)
    else:
        init = init_of(model, given=given)
        found, new = named.load_named(data.task, model.model_name_or_path, prepared, seed, **init)
    if prepared.several_labels:
        found.config.problem_type = MULTI_LABEL
    elif data.task != "causal_lm" and found.config.problem_type is not None:  # the rows say, not what it did before
        found.config.problem_type = "single_label_classification"
    if data.task == "causal_lm" and (problem := order_problem(found)):
        raise ValueError(problem)
    if not model.lora_r:
        return found, None
    if hasattr(found, "peft_config"):
        raise ArgumentError([two_adapters(model.lora_r, model.model_name_or_path)])
    raise_problems(module_problems(model, found))
    return found, adapter(data, model, new, named.commit_of(model.model_name_or_path, model.revision))


def _built(data: DataArguments, model: ModelArguments, prepared: Prepared, seed: int):
    """A new model, of the sizes that the rows give it."""
    sizes = (prepared.processing_class, prepared.labels, prepared.image_size, prepared.num_channels)
    init = {"dtype": model.dtype or "float32", "attn_implementation": model.attn_implementation}
    return build_model(data.task, model.model_type, model.config_overrides, *sizes, seed=seed, **init)


def without_weights(data: DataArguments, model: ModelArguments, prepared: Prepared | None):
    """
    The model that would be trained, with its adapter, on the meta device: what it has, without any number of it.

    Args:
        prepared: the rows, of which a new model has its sizes; None where the model is named.
    """
    import torch
    from peft import get_peft_model

    with torch.device("meta"):
        found = named.bare_model(data.task, model) if model.model_name_or_path else _built(data, model, prepared, 0)
        config = adapter(data, model)
        return found if config is None else get_peft_model(found, config)


def build_model(
    task,
    model_type,
    config_overrides="",
    tokenizer=None,
    labels=None,
    image_size=None,
    num_channels=None,
    seed=0,
    dtype="float32",
    attn_implementation=None,
):
    """A new model with random weights from a configuration, the same for the same seed.

    Args:
        task: "causal_lm", "sequence_classification", "image_classification" or "audio_classification".
        model_type: a Transformers model type: "llama", "gpt2", "bert", "vit", "audio-spectrogram-transformer", ...
        config_overrides: "hidden_size=128,num_hidden_layers=3"; over small sizes for llama, bert, vit and AST, and over
            the library's defaults for other types.
        tokenizer: gives `vocab_size` and the pad, bos and eos ids; needed for text. For sound a feature extractor,
            whose `num_mel_bins` and `max_length` AST takes.
        labels: class names, or how many; needed for classification.
        image_size, num_channels: of the images the model will see; default: the configuration's.
        seed: of the weights. The global generator is left as it was.
        dtype: of the weights; "auto" is float32.
        attn_implementation: the attention kernel; None: the model's.

    Returns:
        `AutoModelForCausalLM`, `AutoModelForSequenceClassification`, `AutoModelForImageClassification` or
        `AutoModelForAudioClassification`, in eval mode as built.

    Raises:
        ValueError: unknown task, model type, key (the known ones are listed) or value type; tokenizer or labels
            missing.
    """
    import torch
    from transformers import AutoConfig

    auto = named.auto_class(task)
    values = model_settings(model_type, config_overrides)
    if task == "audio_classification":
        sizes = ("num_mel_bins", "max_length") if model_type == "audio-spectrogram-transformer" else ()
        values |= {key: getattr(tokenizer, key) for key in sizes if hasattr(tokenizer, key)}
    elif task == "image_classification":
        sizes = {"image_size": image_size, "num_channels": num_channels}
        values |= {key: value for key, value in sizes.items() if value is not None}
    else:
        values = _with_tokens(task, tokenizer, values)
    if task != "causal_lm":
        if not labels:
            raise ValueError(f"task={task!r} needs `labels`: the class names, or how many classes there are.")
        values |= named.label_maps(labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            own = {"dtype": getattr(torch, "float32" if dtype == "auto" else dtype)}
            own |= {"attn_implementation": attn_implementation} if attn_implementation else {}
            model = auto.from_config(AutoConfig.for_model(model_type, **values), **own)
        except Exception as error:  # sizes that do not go together are another type in each architecture
            said = " ".join(str(error.__cause__ or error).split())[:300]
            raise ValueError(f"A {model_type!r} model cannot be built for task={task!r}: {said}") from error
    return model.eval()


def build_problems(task: str, model: ModelArguments) -> list[str]:
    """Why the new model that the flags describe cannot be built, whatever the rows; found without giving it weights."""
    import torch
    from transformers import AutoConfig

    if model.model_name_or_path or not model.model_type:
        return []
    try:
        values = model_settings(model.model_type, model.config_overrides)
    except ValueError:
        return []  # told by model_problems
    try:
        config = AutoConfig.for_model(model.model_type, **values)
        known = named.auto_class(task)._model_mapping.keys()
        if type(config) not in known:
            like = difflib.get_close_matches(model.model_type, [one.model_type for one in known], 3)
            hint = f" Did you mean {', '.join(like)}?" if like else ""
            return [Wrong("model_type", f"is {model.model_type!r}, which has no model for task {task}.{hint}")]
        with torch.device("meta"):
            named.auto_class(task).from_config(config)
    except Exception as error:  # as above
        said = " ".join(str(error.__cause__ or error).split())[:300]
        return [f"A {model.model_type!r} model of these `--config_overrides` cannot be built: {said}"]
    return []


def order_problem(model) -> str | None:
    """What is wrong with a language model whose prediction of a token changes with that token."""
    import torch

    size = model.get_input_embeddings().num_embeddings
    ids = torch.arange(8, device=model.device)[None] % size
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % size
    was_training = model.training
    with torch.no_grad():
        one, two = (model.eval()(input_ids=given).logits[:, :-1].float() for given in (ids, other))
    model.train(was_training)
    if torch.allclose(one, two, rtol=1e-4, atol=1e-6):
        return None
    return (
        f"A {type(model).__name__} of this config sees the tokens that it is to predict, so its loss says nothing. "
        "Take a model that reads from left to right; a new one may do so by --config_overrides is_decoder=true."
    )


def _with_tokens(task: str, tokenizer, values: dict) -> dict:
    """The settings of a text model with its tokenizer's size and special tokens; what is set already stands."""
    if tokenizer is None:
        raise ValueError(f"task={task!r} needs a tokenizer: its size is the model's `vocab_size`.")
    values = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **values,
    }
    if values["vocab_size"] < len(tokenizer):
        raise ValueError(f"vocab_size={values['vocab_size']} is smaller than the tokenizer's {len(tokenizer)} tokens.")
    return values


def model_settings(model_type, config_overrides=""):
    """
    Sizes of a new model: `SMALL`, and over them `config_overrides`.

    Raises:
        ValueError: unknown model type, key (the known ones are listed) or value type.
    """
    from transformers import AutoConfig

    try:
        known = AutoConfig.for_model(model_type).to_dict()
    except ValueError as error:
        raise ValueError(
            f"Unknown `model_type` {model_type!r}; give a Transformers model type such as llama, gpt2, bert or vit."
        ) from error
    return {**SMALL.get(model_type, {}), **parse_overrides(config_overrides, known)}


def parse_overrides(text, known):
    """Settings from the command line, checked against a configuration: "hidden_size=128" gives {"hidden_size": 128}.

    Args:
        text: key=value pairs separated by commas; values are Python literals, anything else is a string.
        known: the configuration as a dict; its keys are those allowed, and its numbers fix the type.

    Raises:
        ValueError: no "=", an unknown key (all known ones are listed) or one twice, a value of another type, or a size
            below 0.
    """
    values = {}
    for item in filter(None, (part.strip() for part in re.split(r",(?![^\[({]*[\])}])", text or ""))):
        key, equals, raw = (part.strip() for part in item.partition("="))
        if not equals:
            raise ValueError(f"`config_overrides` takes key=value pairs separated by commas, got {item!r}.")
        if key not in known:
            raise ValueError(
                f"Unknown key {key!r} in `config_overrides`. This configuration has: {', '.join(sorted(known))}."
            )
        try:
            value = ast.literal_eval({"true": "True", "false": "False", "null": "None"}.get(raw, raw))
        except (ValueError, SyntaxError):
            value = raw
        if key in values:
            raise ValueError(f"`config_overrides` gives {key} twice: leave one.")
        default = known[key]
        fits = (isinstance(value, bool) == isinstance(default, bool)) and isinstance(value, (int, float))
        fits = fits and not (isinstance(default, int) and isinstance(value, float))
        if isinstance(default, (bool, int, float)) and value is not None and not fits:
            raise ValueError(
                f"{key}={raw} in `config_overrides` must be of type {type(default).__name__} (default: {default})."
            )
        is_size = isinstance(default, (int, float)) and default > 0 and not key.endswith("_id")  # of no token
        if is_size and value is not None and value < 0:
            raise ValueError(f"{key}={raw} in `config_overrides` is below 0 (default: {default}).")
        values[key] = value
    return values
