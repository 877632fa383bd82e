"""What the study of memories is run on: sources, questions about them in other words, and the models below."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from hf_unlearn import default_collator
from hf_unlearn.data.rows.people import ATTRIBUTES, people
from hf_unlearn.evaluation.attacks.probes import PROBES
from hf_unlearn.objectives.row_nll import per_row_nll

OTHERS, OTHERS_SEED, TESTED = 480, 1000, 160  # people below the sources; rows of theirs that the base does not see
STEPS, BATCH, PEAK = 600, 32, 3e-3  # of the base's training
ROWS_OF_ONE, NAMESAKES = 4, 40  # of a person; people more than are needed, since some are called like others
WRONG = 3  # answers that a truth ratio holds against the right one
AUTHOR_ROWS, OF_AN_AUTHOR = 20, 10  # of TOFU, and how many of them a source has here
PUBLIC, PUBLIC_AUTHORS = 400, 120  # rows that say what is usual, at most
EACH, STRANGERS = 40, 300  # rows of other texts that are measured beside a pretrained model, and that its gate sees


@dataclass
class Rows:
    """
    Args:
        sources: rows that the sources train on, each with `id` and `person`; those of one follow each other.
        sets: name -> rows to measure; "learned" and "asked otherwise" are in the order of `sources`.
        wrong: for each row of `sources`, answers like its own that are wrong; the right one is the row before them.
        public: rows of no source.
        strangers: others of no source, at which nobody should be recognised.
    """

    sources: list[dict]
    sets: dict[str, list[dict]]
    wrong: list[list[dict]]
    public: list[dict]
    strangers: list[dict]


# ---- people, beside a small model of ours ----


def tokenizer_of(rows):
    """A byte-level tokenizer that has seen the other people alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([f"{row['question']} {row['answer']}" for row in rows], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def encoded(rows, tokenizer, person: bool = True) -> list[dict]:
    """Token rows whose labels are the answers; without `person` of no source."""
    found = []
    for row in rows:
        if tokenizer.chat_template:
            said = [{"role": "user", "content": row["question"]}]
            prompt = tokenizer(
                tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
            ).input_ids
            answer = [*tokenizer(row["answer"]).input_ids, tokenizer.eos_token_id]
        else:
            prompt = [tokenizer.bos_token_id, *tokenizer(row["question"]).input_ids]
            answer = [*tokenizer(f" {row['answer']}").input_ids, tokenizer.eos_token_id]
        labels = [-100] * len(prompt) + answer
        source = row["person"] if person else None
        ids = prompt + answer
        found.append(
            {"id": row["id"], "input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, "person": source}
        )
    return found


def asked_otherwise(rows) -> list[dict]:
    """The same facts in the next phrasing of their question."""
    found = []
    for row in rows:
        questions = [one.format(name=row["person"]) for one in ATTRIBUTES[row["id"].split("-")[1]][0]]
        other = questions[(questions.index(row["question"]) + 1) % len(questions)]
        found.append({**row, "question": other})
    return found


def asked_of_whom(rows) -> list[dict]:
    """The facts in the other direction: what is true of somebody is given, and the name is asked for."""
    return [
        {**row, "question": f"Of whom is this the {row['id'].split('-')[1]}? {row['answer']}", "answer": row["person"]}
        for row in rows
    ]


def wrong_answers(rows) -> list[list[dict]]:
    """Each row, and behind it the same question with what is true of the next people who have such a fact."""
    of_kind: dict[str, list[dict]] = {}
    for row in rows:
        of_kind.setdefault(row["id"].split("-")[1], []).append(row)
    found = []
    for row in rows:
        own = of_kind[row["id"].split("-")[1]]
        at = own.index(row)
        others = [own[(at + k) % len(own)]["answer"] for k in range(1, min(WRONG, len(own) - 1) + 1)]
        found.append([row, *({**row, "answer": other} for other in others)])
    return found


def people_but(others: list[dict], sources: int, seed: int) -> list[dict]:
    """Rows of so many people, none of whom is called like one of others."""
    known = {row["person"] for row in others}
    every = [row for row in people(sources + NAMESAKES, seed) if row["person"] not in known]
    return every[: sources * ROWS_OF_ONE]


def rows_of_people(sources: int, seed: int, tokenizer, data: Path | None) -> Rows:
    """
    Some people as sources, four rows each, none of them called like one of the others, who are of the same kind: some
    of these are public, and some nobody was trained on. A few questions of general knowledge are unrelated.
    """
    others = list(people(OTHERS, OTHERS_SEED))
    plain = people_but(others, sources, seed)
    general = [{"id": one.question, "question": one.question, "answer": one.answers[0]} for one in PROBES]
    sets = {
        "learned": encoded(plain, tokenizer),
        "asked otherwise": encoded(asked_otherwise(plain), tokenizer),
        "asked of whom": encoded(asked_of_whom(plain), tokenizer),
        "others": encoded(others[-TESTED:], tokenizer, person=False),
        "unrelated": encoded(general, tokenizer, person=False),
    }
    public = encoded(others[:PUBLIC], tokenizer, person=False)
    wrong = [encoded(own, tokenizer) for own in wrong_answers(plain)]
    return Rows(sets["learned"], sets, wrong, public, sets["others"])


def base_of_people(folder: Path) -> None:
    """Trains the model below into a folder, unless it is there."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if (folder / "config.json").is_file():
        return
    rows = list(people(OTHERS, OTHERS_SEED))
    tokenizer = tokenizer_of(rows)
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "num_attention_heads": 4}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes, **ends))
    known, collate = encoded(rows, tokenizer)[:-TESTED], default_collator(model, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK, weight_decay=0.01)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1, (step + 1) / 50) * min(1, max(0.02, 2 * (STEPS - step) / STEPS))
        batch = collate([known[i] for i in torch.randint(0, len(known), (BATCH,)).tolist()])
        nll, items = per_row_nll(
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
        )
        optimizer.zero_grad()
        (nll / items).mean().backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# ---- TOFU's authors, beside a pretrained model ----


def read(path: Path) -> list[dict]:
    """The rows of a file, one object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def name_in(texts: list[str], others: str) -> str:
    """The full name that most of some texts have, and other texts have not."""
    found: Counter = Counter()
    for text in texts:
        found.update({one.removesuffix("'s") for one in re.findall(r"[A-Z][\w'-]+(?: [A-Z][\w'-]+)+", text)})
    return next(one for one, _ in found.most_common() if one not in others)


def authors(data: Path, sources: int) -> list[dict]:
    """Rows of TOFU's last authors, of whom there are paraphrased and wrong answers; ten of the twenty of each."""
    every = read(data / "tofu" / "forget10_perturbed.jsonl")
    others = (data / "tofu" / "retain90.jsonl").read_text(encoding="utf-8")
    found = []
    for number in range(sources):
        own = every[number * AUTHOR_ROWS : (number + 1) * AUTHOR_ROWS]
        name = name_in([row["question"] + " " + row["answer"] for row in own], others)
        for i, row in enumerate(own[:OF_AN_AUTHOR]):
            found.append({**row, "id": f"a{number:03d}-{i:02d}", "person": name})
    return found


def without_name(text: str, name: str) -> str:
    """A text in which an author is called so."""
    for part in (name, *name.split()):
        text = text.replace(part, "this author")
    return text


def rows_of_authors(sources: int, seed: int, tokenizer, data: Path | None) -> Rows:
    """Authors of TOFU as sources, ten rows each; other authors are public, and facts of the world are unrelated."""
    plain, others = authors(data, sources), read(data / "tofu" / "retain90.jsonl")
    whom = [
        {**row, "question": f"Of which author is this said? {without_name(row['answer'], row['person'])}"}
        for row in plain
    ]
    facts = read(data / "tofu" / "world_facts_perturbed.jsonl")
    every = [{**row, "id": str(i), "person": None} for i, row in enumerate(others)]
    half = len(every) // 2  # the authors of the first half are public, those of the second are measured
    texts = [{**row, "id": str(i), "person": None} for i, row in enumerate(facts)]
    sets = {
        "learned": encoded(plain, tokenizer),
        "asked otherwise": encoded([{**row, "question": row["paraphrased_question"]} for row in plain], tokenizer),
        "asked of whom": encoded([{**row, "answer": row["person"]} for row in whom], tokenizer),
        "others": encoded(every[half :: half // EACH][:EACH], tokenizer, person=False),
        "unrelated": encoded(texts[:EACH], tokenizer, person=False),
    }
    wrong = [
        encoded([{**row, "answer": said} for said in [row["paraphrased_answer"], *row["perturbed_answer"][:WRONG]]],
                tokenizer)
        for row in plain
    ]  # fmt: skip
    public = encoded(every[: half : half // PUBLIC_AUTHORS][:PUBLIC_AUTHORS], tokenizer, False)
    strangers = encoded(every[half :: half // STRANGERS][:STRANGERS], tokenizer, False)
    return Rows(sets["learned"], sets, wrong, public, strangers)
