"""How the templates are read and filled."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from . import markdown


@cache
def template(name: str):
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["glued"] = lambda text: text.replace(" %", "\u00a0%")  # no line break before a per-cent sign
    environment.filters |= {"md": markdown.escaped, "code": markdown.code, "python": markdown.fenced}
    return environment.get_template(name)
