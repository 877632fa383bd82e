"""
The README.md of a model folder: a header of metadata, what a user wrote, and our sections, each between two marks.

A section is replaced where it stands; what stands outside the marks, and metadata that are not ours to say, stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils import manifest
from ..utils.files import replace_bytes
from . import markdown

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

NAME = "README.md"
OURS = "hf_unlearn"  # tag of every card, and `metric_config` of the results that we measured
STATES = ("unlearned", "unlearning-ready")  # tags that say what the weights are: an old one must not stay
KEEPS = ("license", "license_name", "license_link", "language")  # a user's own value wins over what we find
GENERATED = (  # a card that nobody wrote: the Trainer's, and the template that PEFT fills
    "This model card has been generated automatically according to the information the Trainer had access to",
    "[More Information Needed]",
)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HEADER = re.compile(r"\s*---\s*\n")


def is_hub_id(name: Any) -> bool:
    """Whether a name can be that of a repository: paths of this machine are not published."""
    return isinstance(name, str) and bool(_HUB_ID.fullmatch(name)) and ".." not in name and len(name) <= 96


def read(path: str | Path) -> str | None:
    """The text of a card, with the line ends that it has; None if there is none."""
    path = Path(path)
    return path.read_bytes().decode("utf-8-sig") if path.is_file() else None


def parsed(text: str) -> ModelCard:
    """
    Raises:
        ValueError: if its header is no YAML, or holds results that are not as the hub wants them.
    """
    import yaml
    from huggingface_hub import ModelCard

    try:
        return ModelCard(text if _HEADER.match(text) else f"---\n\n---\n{text}")
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"its header cannot be read: {' '.join(str(error).split())}") from error


def write(
    folder: str | Path,
    sections: Mapping[str, str],
    metadata: Mapping[str, Any],
    *,
    title: str,
    chosen: Mapping[str, Any] | None = None,
    before: str | None = None,
    afresh: bool = False,
) -> Path:
    """
    Writes the card beside itself and moves it into place; returns its path. The manifest of the folder follows.

    Args:
        sections: name -> Markdown; an empty one is taken out.
        metadata: of the header, as `huggingface_hub.ModelCardData` names them: `eval_results` replace those that we
            measured earlier, `tags` are added; None says nothing.
        chosen: metadata that the user gives, which win over all others.
        title: heading of a card that has none, and the model's name in the results.
        before: the text to go on from; None: what is in the folder.
        afresh: a card that nobody wrote ([`GENERATED`]) is begun anew.

    Raises:
        ValueError: if the card that is there cannot be read, or is a link.
        OSError: if it cannot be written.
    """
    path = Path(folder, NAME)
    if path.is_symlink():  # so are the files in the hub's cache
        raise ValueError(f"{path} is a link to a file elsewhere.")
    text = (read(path) if before is None else before) or ""
    card = parsed(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    body = card.text.replace("\r\n", "\n")
    if afresh and _marks("model").search(body) is None and any(words in body for words in GENERATED):
        body = ""
    merge(card.data, metadata, chosen or {}, title)
    body = with_sections(body, sections, title)
    content = f"---\n{header(card.data.to_dict())}\n---\n{body}".replace("\n", newline)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, content.encode())
    manifest.renew(folder, NAME)
    return path


def header(data: Mapping[str, Any]) -> str:
    """The metadata as YAML, as `huggingface_hub` writes it, but that no text in it holds a `<`: see `markdown.py`."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def represent_text(self, text: str):
            return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "<" in text else None)

    Dumper.add_representer(str, Dumper.represent_text)
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True).strip().replace("<", "\\x3c")


def merge(data: Any, metadata: Mapping[str, Any], chosen: Mapping[str, Any], title: str) -> None:
    """Puts metadata into those of a card (`ModelCardData`)."""
    found = {key: value for key, value in metadata.items() if value is not None}
    tags = found.pop("tags", [])
    results = found.pop("eval_results", None)
    bases = [data.get("base_model"), found.get("base_model")]
    of_another = None not in bases and bases[0] != bases[1]  # a folder that is used again, for another model
    for key, value in found.items():
        if key not in KEEPS or of_another or data.get(key) is None:
            data[key] = value
    for key, value in chosen.items():
        if value is not None:
            data[key] = value
    if data.get("base_model") is not None and not _all_hub_ids(data["base_model"]):
        data.pop("base_model")
    if tags:
        kept = [tag for tag in data.get("tags") or [] if tag not in STATES]
        data.tags = [tag for tag in dict.fromkeys([*tags, *kept]) if not _names_a_path(tag)]
    if results is not None:
        others = [result for result in data.get("eval_results") or [] if result.metric_config != OURS]
        data.eval_results = [*others, *results] or None
    if data.get("eval_results"):
        data.model_name = data.get("model_name") or title
    else:
        data.pop("model_name")


def _all_hub_ids(names: str | Sequence[str]) -> bool:
    return all(map(is_hub_id, [names] if isinstance(names, str) else names))


def _names_a_path(tag: str) -> bool:
    """PEFT's tag `base_model:adapter:NAME` of a base that is a folder of this machine."""
    return tag.startswith("base_model:") and not is_hub_id(tag.rpartition(":")[2])


def with_sections(body: str, sections: Mapping[str, str], title: str) -> str:
    """The body of a card with these sections: where they stand already, else the verdict on top, the others below."""
    if _after_title(body) is None:
        text = body.lstrip("\n")
        body = f"\n# {markdown.escaped(title)}\n\n{text}"
    for name, text in sections.items():
        body = _with_section(body, name, f"{_mark(name)}\n\n{text.strip()}\n\n{_end(name)}" if text.strip() else "")
    return f"{body.rstrip()}\n"


def _with_section(body: str, name: str, marked: str) -> str:
    found = _marks(name)
    if found.search(body):
        copies = iter([marked])
        return found.sub(lambda _: next(copies, ""), body)
    if marked and name == "verdict":
        place = _after_title(body)
        rest = body[place:].lstrip("\n")
        return f"{body[:place].rstrip()}\n\n{marked}\n\n{rest}"
    return f"{body.rstrip()}\n\n{marked}\n"


def _after_title(body: str) -> int | None:
    """Where the text goes on after the first heading; None where there is none (a comment in code is none)."""
    place, in_code = 0, False
    for line in body.splitlines(keepends=True):
        place += len(line)
        if re.match(r"\s{0,3}(```|~~~)", line):
            in_code = not in_code
        elif not in_code and re.match(r"# \S", line):
            return place
    return None


def _mark(name: str) -> str:
    return f"<!-- hf_unlearn {name}: written anew each time; your own words are kept outside of these two marks -->"


def _end(name: str) -> str:
    return f"<!-- /hf_unlearn {name} -->"


def _marks(name: str) -> re.Pattern:
    return re.compile(rf"<!-- hf_unlearn {name}:.*?-->.*?{re.escape(_end(name))}", re.S)
