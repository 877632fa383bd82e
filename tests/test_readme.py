"""What the texts for people say: their Python runs, their links lead somewhere, and the README stays short."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("hf_unlearn/**/*.md")])
TEXTS = [path for path in [*TEXTS, *sorted(ROOT.glob("recipes/**/*.md"))] if "templates" not in path.parts]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
COMMANDS = (
    "    pip install -c tests/constraints.txt -e . && python recipes/quickstart.py",
    "    pip install -c tests/constraints.txt -e '.[test]' && pytest",
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def examples(path: Path) -> list[tuple[str, str]]:
    """Each Python block with the output that is shown below it; "" where the next block is not plain text."""
    found = blocks(path)
    following = [*found, ("end", "")][1:]
    return [
        (code, after if kind == "" else "")
        for (language, code), (kind, after) in zip(found, following, strict=True)
        if language == "python"
    ]


def differences(shown: str, printed: str) -> list[str]:
    """
    What a shown output has that the end of a printed one has not. Line breaks are not compared, and numbers, which
    depend on the machine, only roughly.
    """
    shown_words, printed_words = NUMBER.sub("#", shown).split(), NUMBER.sub("#", printed).split()
    end = printed_words[-len(shown_words) :]
    if shown_words != end:
        return [f"shown: {' '.join(shown_words)}", f"printed: {' '.join(end)}"]
    ours = [float(number) for number in NUMBER.findall(shown)]
    theirs = [float(number) for number in NUMBER.findall(printed)][-len(ours) :] if ours else []
    return [
        f"shown: {a:g}, printed: {b:g}"
        for a, b in zip(ours, theirs, strict=True)
        if not math.isclose(a, b, rel_tol=0.3, abs_tol=1)
    ]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs Python text, which knows the names of earlier text of its file, in a new folder, without a network; returns
    what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    names: dict[Path, dict] = {}

    def run(code: str, path: Path) -> str:
        capsys.readouterr()
        exec(compile(code, name_of(path), "exec"), names.setdefault(path, {"__name__": "__main__"}))
        return capsys.readouterr().out

    return run


def test_the_python_of_the_readme_and_the_guide_runs_and_prints_what_is_shown(run):
    """One after the other: the guide replays the request that the README's block has made."""
    ran = 0
    for path in (ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md"):
        for code, shown in examples(path):
            printed = run(code, path)
            assert shown and not differences(shown, printed), f"{name_of(path)}: {differences(shown, printed)}"
            ran += 1
    assert ran >= 3


def test_the_python_of_the_recipes_runs(run):
    found = [(path, code) for path in TEXTS if path.is_relative_to(ROOT / "recipes") for code, _ in examples(path)]
    assert found
    for path, code in found:
        assert run(code, path)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("loss 6.63 after\n30 steps", "a log\nloss 6.60 after 31 steps\n", True),
        ("forgot: yes", "forgot: partly", False),
        ("loss 6.63", "loss 2.1", False),
        ("loss 6.63", "nothing", False),
    ],
)
def test_outputs_are_compared_by_words_and_roughly_by_numbers(shown, printed, same):
    assert (not differences(shown, printed)) is same


def test_the_readme_is_short_and_begins_with_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 200 and len(text.split()) <= 1800
    assert [line for line in lines[:18] if line in COMMANDS] == list(COMMANDS)
    code = text.index("```python")
    assert text[:code].count("\n") < 24 and text[: text.index("## ")].count("\n") < 95


def anchors(path: Path) -> set[str]:
    """What GitHub makes of a file's headings."""
    heads = re.findall(r"^#+ (.*)$", re.sub(BLOCK, "", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_and_pictures_are_there(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{name_of(path)} links to {target}"
        assert not anchor or anchor in anchors(there), f"{name_of(path)} links to {target}"


PLACE = re.compile(r"(?:hf_unlearn|recipes|tests)/[\w./]*\w|\b(?:text|vision|audio|accelerate)/\w+\.yaml")


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_files_that_are_named_are_there(path):
    for place in PLACE.findall(path.read_text(encoding="utf-8")):
        assert (ROOT / place).exists() or (ROOT / "recipes" / place).exists(), f"{name_of(path)} names {place}"


def test_the_file_tree_of_the_readme_is_that_of_the_repository():
    tree = next(text for kind, text in blocks(ROOT / "README.md") if kind == "" and text.startswith("hf_unlearn/"))
    parent, shown = ROOT, []
    for line in tree.splitlines():
        names = re.split(r" {2,}", line.strip())[0].split()
        parent = parent if line.startswith(" ") else ROOT / names[0]
        shown += [parent / name for name in names] if line.startswith(" ") else [parent]
    assert not [path for path in shown if not path.exists()]
    rooms = {path for path in (ROOT / "hf_unlearn").iterdir() if path.is_dir() and path.name[0] not in "_."}
    assert rooms - {ROOT / "hf_unlearn" / "utils"} <= set(shown)


def test_texts_are_found():
    found = {name_of(path) for path in TEXTS}
    assert {"README.md", ".github/CONTRIBUTING.md", "recipes/README.md", "recipes/study/README.md"} <= found
