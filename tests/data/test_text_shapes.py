"""Rows of text as they come, by their columns: tokens and labels written out as TRL reads the same rows."""

from __future__ import annotations

import datasets
import pytest
import torch

from hf_unlearn import ArgumentError, default_collator, encode, per_row_nll, split
from hf_unlearn.data.encode import chat, documents, language, pairs, shapes
from hf_unlearn.data.encode.special import opening_of
from tests.helpers import tiny

CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MARKED = (  # with the marks by which TRL knows the assistant's words
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WORDS = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "a", "b", "c", "d", "e", "f", " "]
PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, A, B, C, D, E, F, BLANK = range(len(WORDS))
NO = -100


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def letters(template=None, adds_bos=True, adds_eos=False, merges=(), side="right", pad="<pad>"):
    """A tokenizer of one token a letter, and of the pairs of letters in `merges`, so that ids can be written out."""
    from tokenizers import Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*WORDS, *("".join(pair) for pair in merges)])}
    plain = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    plain.decoder = decoders.Fuse()
    around = f"{'<s> ' if adds_bos else ''}$A{' </s>' if adds_eos else ''}"
    plain.post_processor = processors.TemplateProcessing(single=around, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token=pad, bos_token="<s>", eos_token="</s>", padding_side=side
    )
    made.add_special_tokens({"additional_special_tokens": WORDS[3:6]})
    made.chat_template = template
    return made


def turns(*said):
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[who], "content": words} for who, words in (one.split(":") for one in said)]


def made(row, tokenizer, **how):
    """`(ids, labels)` of a single row."""
    (found,) = encode([{"id": "x", **row}], tokenizer, **how)
    assert found["attention_mask"] == [1] * len(found["input_ids"])
    return found["input_ids"], found["labels"]


# ---- chats ----------------------------------------------------------------------------------------------------------


def test_the_turns_of_the_assistant_are_learnt_with_their_ends():
    row = {"messages": turns("s:f", "u:ab", "a:c", "u:d", "a:ee")}
    ids, labels = made(row, letters(CHATML))
    assert ids == [SYSTEM, F, EOS, USER, A, B, EOS, ASSISTANT, C, EOS, USER, D, EOS, ASSISTANT, E, E, EOS]
    assert labels == [NO] * 8 + [C, EOS] + [NO] * 4 + [E, E, EOS]


def test_turns_as_sharegpt_names_them_are_the_same_turns():
    said = [("system", "f"), ("human", "ab"), ("gpt", "c")]
    row = {"conversations": [{"from": who, "value": words} for who, words in said]}
    expected = made({"messages": turns("s:f", "u:ab", "a:c")}, letters(CHATML))
    assert made(row, letters(CHATML)) == expected
    assert made({"talk": row["conversations"]}, letters(CHATML), messages_column="talk") == expected


def test_a_template_that_marks_the_assistants_words_gives_what_trl_learns():
    row = {"messages": turns("u:ab", "a:c", "u:d", "a:ee")}
    ids, labels = made(row, letters(MARKED))
    assert ids == [BOS, USER, A, B, EOS, ASSISTANT, C, EOS, USER, D, EOS, ASSISTANT, E, E, EOS]
    assert labels == [NO] * 6 + [C, EOS] + [NO] * 4 + [E, E, EOS]
    assert ids.count(BOS) == 1  # the template brings it, though the tokenizer puts one before a text, too
    unmarked = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    assert made(row, letters(unmarked)) == (ids, labels)


def test_a_tokenizer_that_does_not_tell_places_gives_the_same(monkeypatch):
    row = {"messages": turns("u:ab", "a:c", "u:d", "a:ee")}
    tokenizer = letters(CHATML)
    fast = chat.chat_tokens(tokenizer, row["messages"])
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    assert chat.chat_tokens(tokenizer, row["messages"]) == fast


def test_a_turn_of_weight_0_is_context():
    first, second = turns("u:a", "a:b", "u:c", "a:d"), turns("u:a", "a:b", "u:c", "a:d")
    first[1]["weight"], first[3]["weight"] = 0, 1
    whole = made({"messages": second}, letters(CHATML))
    ids, labels = made({"messages": first}, letters(CHATML))
    assert ids == whole[0]
    assert labels == [NO] * 10 + [D, EOS]
    sharegpt = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0}]
    sharegpt += [{"from": "human", "value": "c"}, {"from": "gpt", "value": "d", "weight": 1}]
    assert made({"conversations": sharegpt}, letters(CHATML)) == (ids, labels)
    with pytest.raises(ValueError, match="of weight 0, and the chat template marks"):
        made({"messages": first}, letters(MARKED))
    first[1]["weight"] = 0.5
    with pytest.raises(ValueError, match=r"weight 0\.5: a turn is learnt \(1\) or not \(0\)"):
        made({"messages": first}, letters(CHATML))


def test_the_roles_that_are_there_are_told_where_none_is_the_assistant():
    chat_of_a_bot = [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}]
    with pytest.raises(ValueError, match="no turn of the assistant that is learnt: its turns are of user, bot"):
        made({"messages": chat_of_a_bot}, letters(CHATML))


@pytest.mark.parametrize(
    ("row", "idle"),
    [
        ({"messages": turns("u:a", "a:b"), "tools": "[]"}, "'tools'"),
        ({"question": "a", "answer": "b", "context": "c", "system": "d"}, "'system', 'context'"),
        ({"text": "a", "context": "c"}, None),
        ({"question": "a", "answer": "b", "person": "c"}, None),
    ],
)
def test_columns_that_others_read_are_told_where_they_are_not_read(row, idle, caplog):
    made(row, letters(CHATML))
    told = [one.message for one in caplog.records if "is not read" in one.message]
    assert told == [] if idle is None else f"column(s) {idle} is not read" in told[0]


def test_a_token_across_the_beginning_of_a_turn_is_context():
    joined = CHATML.replace("<|assistant|>", "<|assistant|>a")  # the words that open an answer end in a letter
    ends = "('|>a' if m['role'] == 'assistant' else '|>')"
    joined = joined.replace("m['role'] + '|>'", f"m['role'] + {ends}")
    tokenizer = letters(joined, merges=[("a", "b")])
    ids, labels = made({"messages": turns("u:c", "a:bd")}, tokenizer)
    assert ids == [USER, C, EOS, ASSISTANT, len(WORDS), D, EOS] and labels == [NO] * 5 + [D, EOS]


@pytest.mark.parametrize(
    "template, said, why",
    [
        (None, ["u:a", "a:b"], "Column 'messages' holds chats, and the tokenizer has no chat template"),
        (CHATML, ["u:a"], "1 row has a chat that has no turn of the assistant"),
        (CHATML, ["a:b"], "begins with a turn of the assistant"),
        ("{{ raise_exception('no system here') }}", ["u:a", "a:b"], r"refused by the chat template \(no system here\)"),
        (CHATML.replace("m['content']", "(m['content'] if loop.last else 'f')"), ["u:a", "a:b", "u:c", "a:d"],
         r"writes otherwise alone than among the others.*\(id x\)"),
    ],
)  # fmt: skip
def test_chats_that_cannot_be_learnt_are_told(template, said, why):
    with pytest.raises(ValueError, match=why):
        made({"messages": turns(*said)}, letters(template))


def test_turns_that_are_no_turns_are_told_by_their_rows():
    for value in ([{"role": "user"}], [{"from": "human", "value": 3}], "hello", []):
        with pytest.raises(ValueError, match=r"1 row has a chat that (has a turn|holds no list|is a text, .hello.)"):
            made({"messages": value}, letters(CHATML))


# ---- prompts and completions ----------------------------------------------------------------------------------------


def test_a_completion_is_learnt_and_its_prompt_is_not():
    row = {"prompt": "ab ", "completion": "cd"}
    assert made(row, letters()) == ([BOS, A, B, BLANK, C, D, EOS], [NO] * 4 + [C, D, EOS])
    assert made(row, letters(adds_bos=False)) == ([A, B, BLANK, C, D, EOS], [NO] * 3 + [C, D, EOS])


def test_bos_and_eos_stand_once_however_they_come():
    expected = [BOS, A, C, EOS], [NO, NO, C, EOS]
    for row in ({"prompt": "<s>a", "completion": "c</s>"}, {"prompt": "a", "completion": "c"}):
        assert made(row, letters()) == made(row, letters(adds_eos=True)) == expected
    question = {"question": "a", "answer": "c</s>"}
    assert made(question, letters(), prompt="<s>{question} ") == ([BOS, A, BLANK, C, EOS], [NO] * 3 + [C, EOS])


def test_a_prompt_is_tokenized_as_a_model_is_asked_it():
    tokenizer = letters(merges=[("a", "b")])
    joined = len(WORDS)
    assert made({"prompt": "ca", "completion": "d"}, tokenizer) == ([BOS, C, A, D, EOS], [NO] * 3 + [D, EOS])
    assert made({"prompt": "ca", "completion": "bd"}, tokenizer) == ([BOS, C, A, B, D, EOS], [NO] * 3 + [B, D, EOS])
    assert made({"prompt": "c", "completion": "abd"}, tokenizer)[0] == [BOS, C, joined, D, EOS]


def test_prompt_and_completion_may_be_parts_of_a_chat():
    row = {"prompt": turns("u:a", "a:b", "u:c"), "completion": turns("a:d")}
    ids, labels = made(row, letters(CHATML))
    assert ids == [USER, A, EOS, ASSISTANT, B, EOS, USER, C, EOS, ASSISTANT, D, EOS]
    assert labels == [NO] * 10 + [D, EOS]


# ---- questions and instructions -------------------------------------------------------------------------------------


def test_questions_go_by_the_chat_template_by_ones_own_or_by_the_usual_one(tokenizer):
    row = {"question": "ab", "answer": " c "}
    assert made(row, letters(CHATML)) == ([USER, A, B, EOS, ASSISTANT, C, EOS], [NO] * 5 + [C, EOS])
    ids, labels = made(row, letters(CHATML), prompt="f{question}f")
    assert (ids, labels) == ([BOS, F, A, B, F, BLANK, C, EOS], [NO] * 5 + [BLANK, C, EOS])
    ids, labels = made(row, tokenizer)
    assert tokenizer.decode(ids) == "<s>Question: ab\nAnswer: c</s>"
    assert tokenizer.decode([one for one in labels if one != NO]) == " c</s>"
    assert made(row, letters(), prompt="{question} ")[0] == [BOS, A, B, BLANK, C, EOS]  # no second blank
    with pytest.raises(ArgumentError, match=r"`prompt` is 'Q:', which has no place for the question"):
        made(row, letters(), prompt="Q:")


def test_instructions_are_asked_with_their_input():
    rows = [{"instruction": "a", "input": given, "output": "c"} for given in ("b", "", None)]
    rows.append({"instruction": "a", "input": " ", "output": "c"})
    found = encode(rows, letters(), prompt="{question} ")
    assert [len(ids) for ids in found["input_ids"]] == [6, 5, 5, 5]  # line breaks are no letters here
    assert found["labels"][0] == [NO] * 4 + [C, EOS]
    alone = encode([{"instruction": "a", "output": "c"}], letters(CHATML))
    assert alone["input_ids"] == [[USER, A, EOS, ASSISTANT, C, EOS]]


@pytest.mark.parametrize(
    "row, why",
    [
        ({"question": "a", "answer": " "}, "1 rows have no answer in column 'answer': id x"),
        ({"prompt": "a", "completion": ""}, "no answer in column 'completion'"),
        ({"text": "  "}, "1 rows have no text in column 'text'"),
        ({"question": "a", "answer": None}, "hold no text in column 'answer'"),
        ({"instruction": "a", "input": 3, "output": "b"}, "hold no text in column 'input'"),
    ],
)
def test_rows_without_anything_to_learn_are_told(row, why):
    with pytest.raises(ValueError, match=why):
        made(row, letters())


# ---- documents ------------------------------------------------------------------------------------------------------


def test_a_short_document_is_one_row_with_its_own_id():
    (row,) = encode([{"id": 7, "text": "abc"}], letters())
    assert (row["input_ids"], row["labels"]) == ([BOS, A, B, C, EOS], [BOS, A, B, C, EOS])
    assert (row["id"], row["document"], row["text"]) == ("7", "7", "abc")


def test_windows_learn_each_token_once_and_keep_the_documents_id():
    rows = encode([{"id": "d", "text": "abcdefab", "by": "me"}], letters(), max_length=5, stride=2)
    assert rows["id"] == ["d#1", "d#2", "d#3", "d#4"] and set(rows["document"]) == {"d"} and set(rows["by"]) == {"me"}
    assert rows["text"] == ["abcd", "cdef", "efab", "fab"]
    assert rows["input_ids"] == [[BOS, A, B, C, D], [BOS, C, D, E, F], [BOS, E, F, A, B], [BOS, F, A, B, EOS]]
    assert rows["labels"] == [[BOS, A, B, C, D], [NO, NO, NO, E, F], [NO, NO, NO, A, B], [NO, NO, NO, NO, EOS]]
    learnt = [token for labels in rows["labels"] for token in labels if token not in (NO, BOS)]
    assert learnt == [A, B, C, D, E, F, A, B, EOS]


def test_windows_without_overlap_end_with_the_document():
    rows = encode([{"id": "d", "text": "abcdef"}], letters(), max_length=4)
    assert rows["input_ids"] == [[BOS, A, B, C], [BOS, D, E, F], [BOS, E, F, EOS]]
    assert rows["labels"] == [[BOS, A, B, C], [BOS, D, E, F], [NO, NO, NO, EOS]]


def test_all_windows_of_a_document_are_in_the_part_that_a_request_names():
    rows = [{"id": f"d{i}", "text": "abcdef" * (i + 1)} for i in range(6)]
    parts = encode(split(rows, by="id", values=["d2"], unseen=["d4"]), letters(), max_length=6)
    assert set(parts["forget"]["document"]) == {"d2"} and len(parts["forget"]) > 1
    assert set(parts["unseen"]["document"]) == {"d4"} and "d2" not in parts["retain"]["document"]
    assert len(set(parts["retain"]["id"])) == len(parts["retain"])


def test_documents_in_parts_need_ids():
    parts = split([{"text": "ab" * (i + 1), "by": i} for i in range(6)], where={"by": 2}, unseen=[4])
    with pytest.raises(ArgumentError, match="documents have no column `id`"):
        encode(parts, letters())
    assert encode([{"text": "ab"}], letters())["document"] == ["0"]


# ---- which shape ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "there, named, kind",
    [
        (["id", "messages", "prompt", "completion"], {}, "messages"),
        (["prompt", "completion", "text"], {}, "completion"),
        (["instruction", "input", "output", "text"], {}, "instruction"),
        (["question", "answer", "text"], {}, "question"),
        (["question", "answer", "story"], {"text": "story"}, "text"),
        (["question", "answer", "text"], {"text": "text"}, "text"),
        (["question", "answer", "text"], {"text": "text", "question": "question"}, "question"),
        (["question", "answer"], {"text": "text"}, "question"),
        (["q", "a", "text"], {"text": "text", "question": "q", "answer": "a"}, "question"),
        (["q", "a", "text"], {"question": "q", "answer": "a"}, "question"),
        (["question", "a"], {"answer": "a"}, "question"),
    ],
)
def test_the_columns_decide_and_the_named_ones_first(there, named, kind):
    found = shapes.shape_of(there, named)
    assert found.kind == kind and set(found.columns.values()) <= set(there)


@pytest.mark.parametrize(
    "there, named, why",
    [
        (["id", "q", "a"], {}, r"told by their columns \(messages; prompt and completion; .*these have 'id', 'q', 'a'"),
        (["id", "q"], {"question": "qq"}, r"no column 'qq', 'answer'; the rows have 'id', 'q'.*by `question_column` a"),
        (["a", "b"], {"text": "a", "answer": "b"}, r"`text_column` and `answer_column` name columns of rows of diff"),
        (["instruction", "output"], {"input": "more"}, "no column 'more'"),
    ],
)  # fmt: skip
def test_columns_that_tell_nothing_are_listed(there, named, why):
    with pytest.raises(ValueError, match=why):
        shapes.shape_of(there, named)


def test_encode_refuses_arguments_that_nothing_reads():
    with pytest.raises(ArgumentError) as error:
        encode([{"text": "a"}], letters(), stride=0, max_length=-1, label_column="x")
    told = str(error.value)
    assert "`stride` is 0" in told and "`max_length` is -1" in told and "`label_column` names no column of" in told
    with pytest.raises(ArgumentError, match="`prompt` is '{question}:', which is of questions and instructions"):
        encode([{"text": "a"}], letters(), prompt="{question}:")
    with pytest.raises(ArgumentError, match="`rows` has no rows in 'rows'"):
        encode({"text": []}, letters())
    with pytest.raises(ArgumentError, match="`questions` is no argument of `encode`"):
        encode([{"text": "a"}], letters(), questions="x")


# ---- padding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad", ["<pad>", "</s>"])
def test_losses_are_those_of_the_row_alone_whatever_side_is_padded(pad):
    model = tiny.lm()
    rows = [{"messages": turns("u:ab", "a:c", "u:d", "a:ee")}, {"messages": turns("u:a", "a:bcdef")}]

    def losses(tokenizer, rows):
        batch = default_collator(model, tokenizer)(rows)
        with torch.no_grad():
            logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return per_row_nll(logits, batch["labels"])

    alone = torch.cat([losses(letters(CHATML), [row])[0] for row in encode(rows, letters(CHATML))])
    for side in ("left", "right"):
        tokenizer = letters(CHATML, side=side, pad=pad)
        found, counts = losses(tokenizer, list(encode(rows, tokenizer)))
        assert counts.tolist() == [5, 6]  # the end of each answer is learnt, also where the same token pads
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_a_tokenizers_opening_is_what_it_puts_before_a_text():
    assert opening_of(letters()) == [BOS] and opening_of(letters(adds_bos=False)) == []
    assert documents.starts_of(9, 4, 3) == [0, 3, 5] and documents.starts_of(3, 4, 4) == [0]
    assert pairs.check_prompt(None) == [] and language.MADE[0] == "input_ids"
