"""A wheel holds what the package needs beside its modules: templates, the marker for type checkers, the command."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def settings(monkeypatch):
    """What setup.py hands to setuptools."""
    found = {}
    monkeypatch.setattr(setuptools, "setup", found.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return found


def test_every_file_that_is_no_module_and_no_readme_is_package_data(settings):
    package = ROOT / "hf_unlearn"
    wanted = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".md")}
    wanted |= set(package.glob("report/templates/*"))
    packed = {path for pattern in settings["package_data"]["hf_unlearn"] for path in package.glob(pattern)}
    assert wanted and wanted <= packed
    assert package / "py.typed" in packed


def test_every_folder_with_modules_is_a_package(settings):
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "hf_unlearn").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} == set(settings["packages"])


def test_the_command_is_there(settings):
    (command,) = settings["entry_points"]["console_scripts"]
    module, _, name = command.partition("=")[2].strip().partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
