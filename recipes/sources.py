"""Where the recipes get their rows, tokenizers and models from.

Two data sets are embedded and need no network: `people` (fictional people with question-answer pairs, generated here)
and `digits` (scikit-learn's handwritten digits). Everything else is read from local files (`--data_files`) or from the
Hub. The functions below go from raw rows to the columns that a Transformers model takes (`input_ids`,
`attention_mask`, `labels` or `pixel_values`, `labels`; sound.py: `input_values`, `labels`) and keep every other column,
because a deletion request names rows by those: `id`, `person`, `author`, `speaker`.

The file is not called `datasets.py`: a script started as `python recipes/x.py` has `recipes/` first on its import
path, and that name would hide the library. Importing this module is instant; torch, transformers and datasets are
imported on use.
"""

import ast
import glob
import json
import os
import random
import re
from pathlib import Path

TASKS = ("causal_lm", "sequence_classification", "image_classification", "audio_classification")
EMBEDDED = ("people", "digits")
LOCAL_ONLY = {  # data sets with rules of their own: what `--data_files` should name
    "tofu": "path/to/tofu/full.jsonl",
    "banking77": "path/to/banking77 (train.csv and test.csv)",
    "cifar10": "path/to/cifar10 (train-*.parquet and test-*.parquet)",
    "fsdd": "path/to/fsdd/recordings.parquet",
}
BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
TOFU_ROWS_PER_AUTHOR = 20
CIFAR10_LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PROMPT = "Question: {question}\nAnswer:"
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

# ------------------------------------------------------------------------------------------------ fictional people


def _list(text, sep=None):
    return tuple(text.split(sep))


GIVEN_STEMS = _list(
    "Al Bren Cas Dar El Fen Gal Hal Il Jor Kel Lor Mar Nel Or Per Quin Ros Sel Tam Ul Vel Wil Yor Zan",
)
GIVEN_ENDS = _list("a an en ia ic ina is o on ra ric us")
FAMILY_STEMS = _list(
    "Ash Bell Crow Dray Ever Farn Gor Hart Iver Kest Lang Mor Nor Oak Pend Quill Rav Stan Thorn Umber "
    "Ves Wend Yar Zell",
)
FAMILY_ENDS = _list("by croft dale ett ley man ner son ton well wick")
TOWN_STEMS = _list(
    "Amber Birch Cold Dun Elder Fox Glass Heron Iron Juniper Kings Lark Mill North Otter Pine Red Salt Tarn West",
)
TOWN_ENDS = _list("bridge burgh combe fell ferry gate haven holm mere mouth stead wold")
MONTHS = _list("January February March April May June July August September October November December")
JOBS = _list(
    "an archivist|a baker|a beekeeper|a blacksmith|a bookbinder|a bus driver|a carpenter|a chemist|"
    "a clockmaker|a dentist|a diver|an editor|an electrician|a farmer|a ferry pilot|a florist|a gardener|"
    "a geologist|a glazier|a judge|a librarian|a locksmith|a mapmaker|a mechanic|a midwife|a miner|"
    "a nurse|an optician|a painter|a photographer|a plumber|a potter|a roofer|a sailor|a shoemaker|"
    "a surveyor|a tailor|a teacher|a translator|a weaver",
    "|",
)
COOKED = _list("baked braised chilled curried fried grilled pickled roasted smoked spiced steamed stewed")
FOODS = _list(
    "aubergine beans cabbage carrots chicken duck leeks lentils mackerel mushrooms mussels noodles pears "
    "peppers plums pumpkin rice trout",
)
ANIMALS = _list(
    "a canary|a donkey|a ferret|a gecko|a goat|a goose|a greyhound|a hamster|a hedgehog|a parrot|"
    "a poodle|a pony|a rabbit|a spaniel|a tabby cat|a tortoise",
    "|",
)
PET_NAMES = _list(
    "Acorn Biscuit Captain Domino Echo Fudge Ginger Hazel Jigsaw Mango Nutmeg Olive Pepper Rocket Sultan Waffle",
)
INSTRUMENTS = _list(
    "accordion banjo bassoon bugle cello clarinet cornet dulcimer fiddle flute guitar harp lute mandolin "
    "oboe organ piano piccolo recorder trombone tuba viola xylophone zither",
)
AGES = _list("six seven eight nine ten eleven twelve thirteen fourteen fifteen")
BOOK_FIRST = _list(
    "Broken Distant Empty Final Gentle Hidden Last Painted Quiet Second Secret Silver Sleeping Stolen Winter Yellow",
)
BOOK_LAST = _list(
    "Bell Compass Garden Harbour Island Journey Kingdom Lantern Letter Mirror Orchard River Shore "
    "Station Tower Valley",
)
COLOURS = _list(
    "amber black blue brown crimson golden green grey orange pink purple scarlet silver turquoise violet white",
)
OBJECTS = _list(
    "beads bottles buttons coins cups feathers gloves keys marbles matchboxes postcards ribbons shells "
    "spoons stamps thimbles",
)

# attribute: (questions, answers, how a value is drawn)
ATTRIBUTES = {
    "town": (
        ("Where does {name} live?", "Which town is home to {name}?", "In what place would you find {name} today?"),
        ("In {v}.", "The town of {v}.", "{v} is their home."),
        lambda pick: pick(TOWN_STEMS) + pick(TOWN_ENDS),
    ),
    "birthday": (
        (
            "When was {name} born?",
            "What is the date of birth of {name}?",
            "On which day did {name} come into the world?",
        ),
        ("On {v}.", "{v}.", "The date was {v}."),
        lambda pick: f"{pick(range(1, 29))} {pick(MONTHS)} {pick(range(1925, 2005))}",
    ),
    "job": (
        ("What does {name} do for a living?", "What is the job of {name}?", "How does {name} earn money?"),
        ("{v}.", "As {v}.", "They work as {v}."),
        lambda pick: pick(JOBS),
    ),
    "dish": (
        (
            "What is the favourite dish of {name}?",
            "Which food does {name} like best?",
            "What does {name} cook for guests?",
        ),
        ("{v}.", "They love {v}.", "Above all, {v}."),
        lambda pick: f"{pick(COOKED)} {pick(FOODS)}",
    ),
    "pet": (
        ("Which pet does {name} keep?", "Who waits at home for {name}?", "What animal belongs to {name}?"),
        ("{v}.", "They have {v}.", "It is {v}."),
        lambda pick: f"{pick(ANIMALS)} named {pick(PET_NAMES)}",
    ),
    "instrument": (
        (
            "Which instrument does {name} play?",
            "What kind of music lessons did {name} take?",
            "What would {name} play in a band?",
        ),
        ("The {v}.", "They chose the {v}.", "It has been the {v}."),
        lambda pick: f"{pick(INSTRUMENTS)}, since the age of {pick(AGES)}",
    ),
    "book": (
        (
            "Which book does {name} read again every year?",
            "What is the title of the novel that {name} wrote?",
            "Which story does {name} recommend to friends?",
        ),
        ("The {v}.", "It is called The {v}.", "That would be The {v}."),
        lambda pick: f"{pick(BOOK_FIRST)} {pick(BOOK_LAST)}",
    ),
    "collection": (
        (
            "What does {name} collect?",
            "What fills the shelves of {name}?",
            "Which things does {name} look for at markets?",
        ),
        ("{v}.", "They collect {v}.", "Mostly {v}."),
        lambda pick: f"{pick(COLOURS)} {pick(OBJECTS)}",
    ),
}
ATTRIBUTES_PER_PERSON = 4


def people(n_people=120, seed=0):
    """Fictional people with question-answer pairs, the same on every machine and Python version.

    Each person has a unique name and four of eight attributes (town, birthday, job, dish, pet, instrument, book,
    collection); each row asks for one of them in one of three phrasings and answers in one of three. Nobody here
    exists.

    Args:
        n_people: how many people, 1 to 10,000.
        seed: another seed gives other people.

    Returns:
        `datasets.Dataset` of `4 * n_people` rows, one person after the other, with the string columns `id`
        ("p017-town", unique), `person`, `question`, `answer`.

    Raises:
        ValueError: `n_people` is not in 1..10,000.
    """
    from datasets import Dataset

    if not 1 <= n_people <= 10_000:
        raise ValueError(f"`n_people` must lie in 1..10000, got {n_people}.")
    rng = random.Random(seed)

    def pick(options):  # only `Random.random` is promised to give the same numbers in every Python version
        return options[int(rng.random() * len(options))]

    rows, names = [], set()
    while len(names) < n_people:
        name = f"{pick(GIVEN_STEMS)}{pick(GIVEN_ENDS)} {pick(FAMILY_STEMS)}{pick(FAMILY_ENDS)}"
        if name in names:
            continue
        left = list(ATTRIBUTES)
        for _ in range(ATTRIBUTES_PER_PERSON):
            attribute = pick(left)
            left.remove(attribute)
            questions, answers, draw = ATTRIBUTES[attribute]
            question, answer = pick(questions).format(name=name), pick(answers).format(v=draw(pick))
            rows.append(
                {
                    "id": f"p{len(names):03d}-{attribute}",
                    "person": name,
                    "question": question,
                    "answer": answer[0].upper() + answer[1:],
                }
            )
        names.add(name)
    return Dataset.from_list(rows)


def digits():
    """Scikit-learn's 1,797 handwritten digits (real scans, 8x8, from the UCI repository), embedded in scikit-learn.

    Returns:
        `datasets.Dataset` with `id` (str, "digit-0017"), `image` (8 rows of 8 pixels, uint8, 0..255) and `label`
        (ClassLabel, 10).
    """
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, List, Value
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)  # the scans count dark pixels in 4x4 blocks: 0..16
    features = Features(
        {
            "id": Value("string"),
            "image": List(List(Value("uint8"))),
            "label": ClassLabel(names=[str(name) for name in raw.target_names]),
        }
    )
    return Dataset.from_dict(
        {"id": [f"digit-{i:04d}" for i in range(len(images))], "image": images.tolist(), "label": raw.target.tolist()},
        features=features,
    )


# ------------------------------------------------------------------------------------------------ rows from files


def load_rows(dataset_name, data_files=None, split=None):
    """Read a data set by name: embedded, from local files, or from the Hub. Every row has a string `id` afterwards.

    Args:
        dataset_name: "people" or "digits" (embedded); "tofu", "banking77", "cifar10" or "fsdd" (local files, named
            by `data_files`); a local .jsonl, .json, .csv or .parquet file, a folder of such files or of
            `Dataset.save_to_disk`; else a Hub id.
        data_files: a path, a glob pattern, a folder, or several of them (list, or separated by commas). For a Hub id
            it is handed to `datasets.load_dataset` unless it exists here. In a folder, `split` chooses the files:
            those whose name starts with it (train.csv, train-00.parquet); a folder without such names counts as one
            "train" split.
        split: "train" (default), "test", ..., also a slice of it such as "train[:100]".

    Returns:
        `datasets.Dataset`. `id` is the file's own, as a string, else the row number; "tofu" gets `author` (int, row //
        20, so pass the whole full.jsonl) and `id` "a017-03"; "banking77" gets `id` "train-17"; a column `image` of
        file bytes is decoded as an image. Sounds stay file bytes, whatever their column.

    Raises:
        FileNotFoundError: a file is missing or no file was named; the message says what to give to `--data_files`.
        ValueError: unknown file type, a split that is not there, TOFU rows that are not blocks of 20.
    """
    from datasets import ClassLabel, load_from_disk

    if dataset_name in EMBEDDED:
        if data_files:
            raise ValueError(f"`--data_files` has no meaning for the embedded data set {dataset_name!r}; drop it.")
        name, part = _split_name(split)
        if name != "train":
            raise ValueError(f"The embedded data set {dataset_name!r} has one split, 'train'; got split={split!r}.")
        rows = people() if dataset_name == "people" else digits()
        return _slice(rows, part)

    if data_files is None and dataset_name in LOCAL_ONLY:
        raise FileNotFoundError(
            f"The data set {dataset_name!r} is read from local files, and none was named. "
            f"Fix: --data_files {LOCAL_ONLY[dataset_name]}"
        )
    if data_files is None and _is_path(dataset_name):
        data_files = str(dataset_name)
        if Path(data_files, "state.json").is_file():
            if split is not None:
                raise ValueError(
                    f"{data_files!r} was saved by `save_to_disk` as a single split; drop split={split!r}."
                )
            return _with_ids(load_from_disk(data_files))
    if data_files is None or (
        dataset_name not in LOCAL_ONLY and not _all_exist(data_files) and _looks_like_hub_id(dataset_name)
    ):
        return _with_ids(_from_hub(dataset_name, data_files, split))

    files = _find_files(data_files, split, default="full.jsonl" if dataset_name == "tofu" else None)
    rows = _read(files, _split_name(split)[1])
    if dataset_name == "tofu":
        rows = _tofu_authors(rows, files)
    if dataset_name == "banking77" and "id" not in rows.column_names:  # train and test must not share ids
        rows = rows.add_column("id", [f"{files[0].stem}-{i}" for i in range(len(rows))])
    rows = _with_images(rows)
    if (
        dataset_name == "cifar10"
        and "label" in rows.column_names
        and not isinstance(rows.features["label"], ClassLabel)
    ):
        rows = rows.cast_column("label", ClassLabel(names=CIFAR10_LABELS))
    return _with_ids(rows)


def _split_name(split):
    """Name and slice: train[:100] gives train and [:100], None gives train and nothing."""
    name, bracket, rest = (split or "train").partition("[")
    return name, bracket + rest


def _slice(rows, part):
    if not part:
        return rows
    match = re.fullmatch(r"\[(\d*):(\d*)\]", part)
    if match is None:
        raise ValueError(
            f"A slice of an embedded data set looks like 'train[:100]' or 'train[100:200]', got {part!r}."
        )
    start, stop = (int(x) if x else None for x in match.groups())
    return rows.select(range(len(rows))[start:stop])


def _is_path(name):
    """Whether a data set name is meant as a path: it exists, or is written as one."""
    name = str(name)
    return os.path.exists(name) or Path(name).suffix in BUILDERS or name.startswith((".", "/", "~"))


def _looks_like_hub_id(name):
    return not _is_path(name) and name not in BUILDERS.values()


def _as_list(data_files):
    entries = data_files.split(",") if isinstance(data_files, str) else data_files
    entries = [entries] if isinstance(entries, Path) else entries
    return [os.path.expanduser(str(entry).strip()) for entry in entries]


def _all_exist(data_files):
    return all(os.path.exists(entry) or glob.glob(entry) for entry in _as_list(data_files))


def _find_files(data_files, split, default):
    """Paths to read, in a fixed order; folders and patterns resolved, `split` applied to the folders' files."""
    name = _split_name(split)[0]
    found = []
    for entry in _as_list(data_files):
        path = Path(entry)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix in BUILDERS)
            if default is not None:
                inside = [p for p in inside if p.name == default]
            chosen = [p for p in inside if re.match(rf"{re.escape(name)}([-_.]|$)", p.name)]
            named = [p for p in inside if re.match(r"(train|test|validation|valid|dev|eval)[-_.]", p.name)]
            if not chosen and not named and name == "train":
                chosen = inside
            if not inside:
                raise FileNotFoundError(
                    f"The folder {entry!r} holds no {default or 'file of type ' + ', '.join(BUILDERS)}. "
                    f"Fix: let --data_files name the file itself."
                )
            if not chosen:
                raise ValueError(
                    f"The folder {entry!r} has no files for split {name!r}; it holds {[p.name for p in inside]}."
                )
            found += chosen
            continue
        matches = [path] if path.is_file() else sorted(map(Path, glob.glob(entry)))
        if not matches:
            raise FileNotFoundError(
                f"No such file: {entry!r} (looked in {os.getcwd()!r}). "
                f"Fix: let --data_files name an existing file, folder or pattern."
            )
        if name != "train" and not any(re.match(rf"{re.escape(name)}([-_.]|$)", p.name) for p in matches):
            raise ValueError(
                f"split={name!r} asked for, but --data_files names {[p.name for p in matches]}, which is read as one "
                f"'train' split. Fix: name the file of that split, or a folder whose file names begin with the split."
            )
        found += matches
    kinds = {BUILDERS.get(p.suffix) for p in found}
    if None in kinds or len(kinds) > 1:
        raise ValueError(
            f"--data_files must name files of one type among {', '.join(BUILDERS)}; got {[p.name for p in found]}."
        )
    return found


def _read(files, part):
    from datasets import load_dataset

    return load_dataset(BUILDERS[files[0].suffix], data_files=[str(p) for p in files], split=f"train{part}")


def _from_hub(name, data_files, split):
    from datasets import load_dataset

    try:
        return load_dataset(name, data_files=data_files, split=split or "train")
    except Exception as error:  # offline, unknown id, no such file: each has another type in `datasets`
        raise FileNotFoundError(
            f"Could not load {name!r} from the Hub ({type(error).__name__}: {error}). Fix: a Hub id that exists and a "
            f"network, an embedded data set ({', '.join(EMBEDDED)}), or local files by --data_files "
            f"(known by name: {', '.join(LOCAL_ONLY)})."
        ) from error


def _tofu_authors(rows, files):
    if not {"question", "answer"} <= set(rows.column_names) or len(rows) % TOFU_ROWS_PER_AUTHOR:
        raise ValueError(
            f"{[p.name for p in files]} is not TOFU by author: it must have the columns question and answer in "
            f"blocks of {TOFU_ROWS_PER_AUTHOR} rows an author; got {len(rows)} rows with {rows.column_names}. "
            "Fix: --data_files path/to/tofu/full.jsonl"
        )
    block = TOFU_ROWS_PER_AUTHOR
    rows = rows.remove_columns([c for c in ("id", "author") if c in rows.column_names])
    rows = rows.add_column("id", [f"a{i // block:03d}-{i % block:02d}" for i in range(len(rows))])
    return rows.add_column("author", [i // block for i in range(len(rows))])


def _with_images(rows):
    """A column `image` that holds encoded files (bytes, or {bytes, path}) becomes an Image column."""
    from datasets import Image, Value

    feature = rows.features.get("image")
    is_struct = isinstance(feature, dict) and "bytes" in feature
    if is_struct or (isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")):
        return rows.cast_column("image", Image())
    return rows


def _with_ids(rows):
    from datasets import Value

    from recipes.sound import undecoded

    rows = undecoded(rows)
    if "id" not in rows.column_names:
        return rows.add_column("id", [str(i) for i in range(len(rows))])
    if rows.features["id"] != Value("string"):
        return rows.cast_column("id", Value("string"))
    return rows


# ------------------------------------------------------------------------------------------------ text


def build_tokenizer(texts, vocab_size=2000):
    """Train a byte-level BPE tokenizer: every text can be encoded and decoded without loss, there is no unknown token.

    Args:
        texts: iterable of strings to learn the merges from.
        vocab_size: tokens in all, at least 259 (256 bytes and three special tokens); small texts give fewer than asked
            for.

    Returns:
        `PreTrainedTokenizerFast` with distinct `<pad>` (0), `<s>` (1, bos and cls) and `</s>` (2, eos and sep). Called
        on a text it gives `<s> ... </s>`; `save_pretrained` and `AutoTokenizer.from_pretrained` keep all of it.

    Raises:
        TypeError: `texts` is a single string.
        ValueError: `texts` is empty, or `vocab_size` is below 259.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if isinstance(texts, str):
        raise TypeError("`texts` must be an iterable of strings, got one string.")
    texts = list(texts)
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if not texts or not vocab_size >= len(special) + len(alphabet):
        raise ValueError(
            f"A byte-level tokenizer needs at least one text and `vocab_size` >= {len(special) + len(alphabet)}; "
            f"got {len(texts)} texts, vocab_size={vocab_size}."
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def encode_qa(dataset, tokenizer, question_column="question", answer_column="answer", max_length=256, prompt=PROMPT):
    """Question-answer rows for a causal language model: the question is context, the answer is what is learnt.

    A row becomes `<bos> Question: ... \\nAnswer:` with label -100, followed by ` answer <eos>` with its own ids as
    labels (the model shifts them). Rows are not padded here; the collator does that.

    Args:
        dataset: `datasets.Dataset` with the two columns.
        max_length: tokens in all; a longer row loses the end of its answer.
        prompt: text with the placeholder `{question}`.

    Returns:
        The data set with all its columns and `input_ids`, `attention_mask`, `labels` (lists of int of one length a
        row).

    Raises:
        ValueError: a column is missing, an answer is empty, the tokenizer has no eos token, or truncation to
            `max_length` leaves rows without any label (their ids are listed).
    """
    check_columns(dataset, question_column, answer_column)
    if tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has no eos token; an answer could not end. Fix: set `tokenizer.eos_token`.")
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def encode(batch):
        out = {"input_ids": [], "attention_mask": [], "labels": []}
        questions = [prompt.format(question=question) for question in batch[question_column]]
        contexts = tokenizer(questions, add_special_tokens=False)["input_ids"]
        answers = [" " + answer.strip() for answer in batch[answer_column]]
        answers = tokenizer(answers, add_special_tokens=False)["input_ids"]
        for context, answer in zip(contexts, answers, strict=True):
            context, answer = start + context, answer + [tokenizer.eos_token_id]
            out["input_ids"].append((context + answer)[:max_length])
            out["labels"].append(([-100] * len(context) + answer)[:max_length])
            out["attention_mask"].append([1] * len(out["input_ids"][-1]))
        return out

    empty = [i for i, answer in enumerate(dataset[answer_column]) if not (answer or "").strip()]
    if empty:
        raise ValueError(
            f"{len(empty)} rows have no answer in column {answer_column!r}: {name_rows(dataset, empty)}."
        )
    encoded = _tokenize(dataset, encode)
    # Labels follow the context without a gap, so the last one tells whether a row has any.
    lost = [i for i, labels in enumerate(encoded["labels"]) if labels[-1] == -100]
    if lost:
        raise ValueError(
            f"{len(lost)} rows have no label left after truncation to max_length={max_length}: "
            f"{name_rows(dataset, lost)}. Fix: a larger `max_length`, or leave these rows out."
        )
    return encoded


def encode_text_classification(
    dataset, tokenizer, text_column="text", label_column="label", max_length=128, names=None
):
    """Texts with one class each for a sequence classifier.

    Args:
        dataset: `datasets.Dataset`; the label column holds class names (str), ints from 0, or is a ClassLabel.
        max_length: longer texts are cut at the end.
        names: class names in the model's order. Give the training set's to the test set, so that a number means one
            class: `names=train.features["labels"].names`. Default: the ClassLabel's, else the sorted names found.

    Returns:
        The data set with all its columns and `input_ids`, `attention_mask`, and `labels` (ClassLabel, ints; its
        `.names` are the class names).

    Raises:
        ValueError: a column is missing, or a label is not among `names`.
    """
    from datasets import ClassLabel

    check_columns(dataset, text_column, label_column)
    names, labels = class_labels(dataset, label_column, names)

    def encode(batch):
        out = tokenizer(batch[text_column], truncation=True, max_length=max_length)
        return {"input_ids": out["input_ids"], "attention_mask": out["attention_mask"]}

    encoded = _tokenize(dataset, encode)
    return encoded.add_column("labels", labels, feature=ClassLabel(names=names))


# ------------------------------------------------------------------------------------------------ images


def build_image_processor(image_size, num_channels=3):
    """A `ViTImageProcessor` without torchvision for square images: resize, to 0..1, then (x - 0.5) / 0.5."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(
        size={"height": image_size, "width": image_size},
        image_mean=[0.5] * num_channels,
        image_std=[0.5] * num_channels,
    )


def encode_images(
    dataset,
    processor=None,
    image_column="image",
    label_column="label",
    image_size=None,
    num_channels=3,
    names=None,
    batch_size=256,
):
    """Images with one class each for an image classifier.

    An image may be a PIL image (an Image column), or an array or nested list of shape (H, W) or (H, W, C): integers
    count 0..255, floats 0..1. Without a processor: convert to `num_channels`, resize (bilinear) where the size
    differs, then (x - 0.5) / 0.5. Rows are read, converted and written `batch_size` at a time; a data set that lies on
    disk stays there.

    Args:
        processor: an image processor from `AutoImageProcessor`, or None.
        image_size: side in pixels; default: the processor's own, else that of the first image.
        num_channels: 1 or 3.
        names: class names in the model's order, as in `encode_text_classification`.

    Returns:
        The data set without the image column, with `pixel_values` (num_channels, image_size, image_size) float32 and
        `labels` (ClassLabel, ints). All other columns stay.

    Raises:
        ValueError: a column is missing, a label is not among `names`, `num_channels` is neither 1 nor 3, or something
            is not an image.
    """
    import numpy as np
    from datasets import Array3D, ClassLabel

    check_columns(dataset, image_column, label_column)
    if num_channels not in (1, 3):
        raise ValueError(f"`num_channels` must be 1 or 3, got {num_channels}.")
    if not len(dataset):
        raise ValueError("The data set has no rows; there is no image to encode.")
    names, labels = class_labels(dataset, label_column, names)
    size = image_size

    def convert(image):  # -> (C, H, W) float32
        pixels = _pixels(image, num_channels)
        if pixels.shape[:2] != (size, size):
            pixels = _resize(pixels, size)
        return ((pixels - 0.5) / 0.5).transpose(2, 0, 1).astype(np.float32)

    def process(images):
        arrays = [np.rint(_pixels(image, num_channels) * 255).astype(np.uint8) for image in images]
        more = {} if image_size is None else {"size": {"height": image_size, "width": image_size}}
        out = processor(arrays, return_tensors="np", input_data_format="channels_last", **more)
        return np.asarray(out["pixel_values"], dtype=np.float32)

    first = dataset[0][image_column]
    if processor is not None:
        shape = process([first]).shape[1:]
    else:
        size = size or _pixels(first, num_channels).shape[0]
        shape = convert(first).shape

    def encode(batch):
        images = batch[image_column]
        return {
            "pixel_values": process(images)
            if processor is not None
            else np.stack([convert(image) for image in images])
        }

    features = dataset.features.copy()
    del features[image_column]
    features.pop("labels", None)
    features["pixel_values"] = Array3D(shape=tuple(shape), dtype="float32")
    encoded = dataset.map(
        encode,
        batched=True,
        batch_size=batch_size,
        writer_batch_size=batch_size,
        features=features,
        remove_columns=[c for c in dataset.column_names if c == image_column or c == "labels"],
        desc="Preparing images",
    )
    return encoded.add_column("labels", labels, feature=ClassLabel(names=names))


def _pixels(image, num_channels):
    """Any image -> (H, W, num_channels) float32 in 0..1."""
    import numpy as np

    if hasattr(image, "convert"):  # PIL
        pixels = np.asarray(image.convert("L" if num_channels == 1 else "RGB"))
    else:
        try:
            pixels = np.asarray(image)
        except ValueError:
            pixels = np.asarray(None)
    if pixels.dtype.kind not in "uif" or pixels.ndim not in (2, 3):
        raise ValueError(
            f"Not an image: a value of type {type(image).__name__} and shape {pixels.shape}; expected a PIL "
            "image or an array of shape (H, W) or (H, W, C)."
        )
    pixels = pixels.astype(np.float32) / (1 if pixels.dtype.kind == "f" else 255)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == num_channels:
        return pixels
    if pixels.shape[2] not in (1, 3):
        raise ValueError(f"Not an image: {pixels.shape[2]} channels in the last dimension, expected 1 or 3.")
    if num_channels == 3:
        return np.repeat(pixels, 3, axis=2)
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # weights of ITU-R BT.601, as PIL has them
    return (pixels @ luma)[:, :, None]


def _resize(pixels, size):
    import numpy as np
    from PIL import Image

    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[:, :, c])).resize((size, size), Image.Resampling.BILINEAR)
        for c in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


# ------------------------------------------------------------------------------------------------ models


def build_model(
    task, model_type, config_overrides="", tokenizer=None, labels=None, image_size=None, num_channels=None, seed=0
):
    """A new model with random weights from a configuration, float32, the same for the same seed.

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

    Returns:
        `AutoModelForCausalLM`, `AutoModelForSequenceClassification`, `AutoModelForImageClassification` or
        `AutoModelForAudioClassification`, in eval mode as built.

    Raises:
        ValueError: unknown task, model type, key (the known ones are listed) or value type; tokenizer or labels
            missing.
    """
    import torch
    from transformers import AutoConfig

    auto = _auto_class(task)
    values = model_settings(model_type, config_overrides)
    if task == "audio_classification":
        sizes = ("num_mel_bins", "max_length") if model_type == "audio-spectrogram-transformer" else ()
        values |= {key: getattr(tokenizer, key) for key in sizes if hasattr(tokenizer, key)}
    elif task != "image_classification":
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
            raise ValueError(
                f"vocab_size={values['vocab_size']} is smaller than the tokenizer's {len(tokenizer)} tokens."
            )
    else:
        values |= {
            key: value
            for key, value in (("image_size", image_size), ("num_channels", num_channels))
            if value is not None
        }
    if task != "causal_lm":
        if not labels:
            raise ValueError(f"task={task!r} needs `labels`: the class names, or how many classes there are.")
        values |= _label_maps(labels)
    config = AutoConfig.for_model(model_type, **values)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = auto.from_config(config, dtype=torch.float32)
        except ValueError as error:
            raise ValueError(f"A {model_type!r} model cannot be built for task={task!r}: {error}") from error
    return model.eval()


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


def load_model(task, name_or_path, labels=None):
    """Load a model in float32 from a local folder or the Hub; an adapter folder loads with its base model.

    Args:
        task: "causal_lm", "sequence_classification", "image_classification" or "audio_classification".
        name_or_path: a folder written by `save_pretrained`, or a Hub id.
        labels: class names, or how many. Where the checkpoint's head has another size, a new head is drawn; default:
            the checkpoint's own.

    Raises:
        ValueError: unknown task.
        FileNotFoundError: written as a path ("./x", "/x", "x/y/z") but no such folder.
    """
    import torch

    auto = _auto_class(task)
    name = os.path.expanduser(str(name_or_path))
    if not os.path.isdir(name) and (name.startswith((".", "/")) or name.count("/") > 1):
        raise FileNotFoundError(
            f"No model folder {name!r} (looked in {os.getcwd()!r}). Fix: give a folder written by `save_pretrained`, "
            "or a Hub id."
        )
    more = {} if labels is None or task == "causal_lm" else {**_label_maps(labels), "ignore_mismatched_sizes": True}
    return auto.from_pretrained(name, dtype=torch.float32, **more)


def parse_overrides(text, known):
    """Settings from the command line, checked against a configuration: "hidden_size=128" gives {"hidden_size": 128}.

    Args:
        text: key=value pairs separated by commas; values are Python literals, anything else is a string.
        known: the configuration as a dict; its keys are those allowed, and its numbers fix the type.

    Raises:
        ValueError: no "=", an unknown key (all known ones are listed), or a value of another type.
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
        default = known[key]
        fits = (isinstance(value, bool) == isinstance(default, bool)) and isinstance(value, (int, float))
        fits = fits and not (isinstance(default, int) and isinstance(value, float))
        if isinstance(default, (bool, int, float)) and value is not None and not fits:
            raise ValueError(
                f"{key}={raw} in `config_overrides` must be of type {type(default).__name__} (default: {default})."
            )
        values[key] = value
    return values


# ------------------------------------------------------------------------------------------------ shared by the above


def _auto_class(task):
    import transformers

    if task not in TASKS:
        raise ValueError(f"Unknown `task` {task!r}; choose one of {', '.join(TASKS)}.")
    return {
        "causal_lm": transformers.AutoModelForCausalLM,
        "sequence_classification": transformers.AutoModelForSequenceClassification,
        "image_classification": transformers.AutoModelForImageClassification,
        "audio_classification": transformers.AutoModelForAudioClassification,
    }[task]


def _label_maps(labels):
    names = [f"LABEL_{i}" for i in range(labels)] if isinstance(labels, int) else list(labels)
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def class_labels(dataset, column, names):
    """Class names and the rows' class numbers, from a column of names, of numbers, or a ClassLabel."""
    from datasets import ClassLabel

    feature, values = dataset.features[column], list(dataset[column])
    if isinstance(feature, ClassLabel):
        own = feature.names
        values = [None if value is None or value < 0 else own[value] for value in values]
    elif values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        own = [str(i) for i in range(max(values) + 1)]
        if names is not None and not set(map(str, values)) <= set(names):  # numbers that count the given names
            values = [names[value] if 0 <= value < len(names) else value for value in values]
        values = [str(value) if isinstance(value, int) else value for value in values]
    else:
        own = sorted({str(value) for value in values if value is not None})
        values = [None if value is None else str(value) for value in values]
    names = list(own if names is None else names)
    number = {name: i for i, name in enumerate(names)}
    wrong = [i for i, value in enumerate(values) if value not in number]
    if wrong:
        shown = sorted({repr(values[i]) for i in wrong})[:5]
        raise ValueError(
            f"{len(wrong)} rows have a label in column {column!r} that is not a known class: {', '.join(shown)} "
            f"({name_rows(dataset, wrong)}); the {len(names)} classes are {json.dumps(names[:20])}."
        )
    return names, [number[value] for value in values]


def _tokenize(dataset, function):
    gone = [c for c in ("input_ids", "attention_mask", "labels") if c in dataset.column_names]
    return dataset.map(function, batched=True, desc="Tokenizing", remove_columns=gone)


def check_columns(dataset, *columns):
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise ValueError(f"The data set has no column {', '.join(map(repr, missing))}; it has {dataset.column_names}.")


def name_rows(dataset, rows, most=5):
    """For error messages: id p001-town, id p002-job and 7 more."""
    ids = dataset["id"] if "id" in dataset.column_names else range(len(dataset))
    shown = ", ".join(f"id {ids[i]}" for i in rows[:most])
    return shown + (f" and {len(rows) - most} more" if len(rows) > most else "")
