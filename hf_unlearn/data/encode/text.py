"""From texts to what a language model or a text classifier takes."""

from __future__ import annotations

from .columns import check_columns, check_texts, class_labels, with_labels


def build_tokenizer(texts, vocab_size=2000, append_eos=False):
    """Train a byte-level BPE tokenizer: every text can be encoded and decoded without loss, there is no unknown token.

    Args:
        texts: iterable of strings to learn the merges from.
        vocab_size: tokens in all, at least 259 (256 bytes and three special tokens); small texts give fewer than asked
            for.
        append_eos: end every text with `</s>`, as tokenizers of classifiers do. Not for a language model: a text that
            is to be continued has no end, and what cuts `context + answer` at the context's length (lm-eval) would be
            one token off. Rows to learn from end with it by [`hf_unlearn.encode`].

    Returns:
        `PreTrainedTokenizerFast` with distinct `<pad>` (0), `<s>` (1, bos and cls) and `</s>` (2, eos and sep). Called
        on a text it gives `<s> ...`; `save_pretrained` and `AutoTokenizer.from_pretrained` keep all of it.

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
    end = " </s>" if append_eos else ""
    bpe.post_processor = processors.TemplateProcessing(
        single=f"<s> $A{end}", pair=f"<s> $A </s> $B{end}", special_tokens=[("<s>", 1), ("</s>", 2)]
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


def encode_text_classification(
    dataset, tokenizer, text_column="text", label_column="label", max_length=None, names=None
):
    """Texts with one class each, or with several labels, for a sequence classifier.

    Args:
        dataset: `datasets.Dataset`; the label column holds class names (str), ints from 0, or is a ClassLabel; or lists
            of such, several labels a row, each of them there or not.
        max_length: tokens of a row at most; longer texts are cut at the end, before the tokenizer's closing tokens.
            None: none is cut.
        names: class names in the model's order. Give the training set's to the test set, so that a number means one
            class: `names=train.features["labels"].names`. Default: the ClassLabel's, else the sorted names found.

    Returns:
        The data set with all its columns and `input_ids`, `attention_mask`, and `labels` (ClassLabel, ints; its
        `.names` are the class names; of several labels a row, float32 lists with 0 or 1 for each of `names`).

    Raises:
        ValueError: a column is missing or holds no text, a label is not among `names`, or `max_length` leaves no room
            beside the tokenizer's own tokens.
    """
    check_columns(dataset, text_column, label_column)
    check_texts(dataset, text_column)
    if max_length is not None and max_length <= (own := tokenizer.num_special_tokens_to_add()):
        raise ValueError(
            f"`max_length` is {max_length}, and the tokenizer adds {own} tokens of its own to each text: at least "
            f"{own + 1} are needed, and many more for what texts say."
        )
    names, labels = class_labels(dataset, label_column, names)

    def encode(batch):
        how = {} if max_length is None else {"truncation": True, "max_length": max_length}
        out = tokenizer(batch[text_column], verbose=False, **how)
        return {"input_ids": out["input_ids"], "attention_mask": out["attention_mask"]}

    gone = [c for c in ("input_ids", "attention_mask", "labels") if c in dataset.column_names]
    encoded = dataset.map(encode, batched=True, desc="Tokenizing", remove_columns=gone)
    return with_labels(encoded, names, labels)
