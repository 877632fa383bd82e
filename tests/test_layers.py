"""The package's layers: imports go down only, the light modules stay light, and engines are named in one file."""

from __future__ import annotations

import ast
import functools
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hf_unlearn"
LAYERS = {
    "_lazy": -1, "versions": -1, "options": -1,  # the lowest: what `--help` needs
    "objectives": 0, "meta": 0, "schedule": 0, "forwards": 0,
    "data": 1, "evaluation": 1, "simulation": 1, "memory": 1, "report": 1, "records": 1, "answers": 1,
    "figures": 1, "findings": 1, "verdict": 1, "checkpoints": 1, "faithfulness": 1,
    "config": 2, "metrics": 2,
    "distributed": 3, "models": 3, "callbacks": 3,
    "trainer": 4, "row_passes": 4, "ready_trainer": 4, "unlearn_step": 4, "unlearn_trainer": 4,
    "way_back": 3, "request_defaults": 3,
}  # fmt: skip
STANDARD = set(sys.stdlib_module_names)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def files(module: str) -> list[Path]:
    """The file of a module, or those of a folder."""
    folder = PACKAGE / module
    return sorted(folder.glob("*.py")) if folder.is_dir() else [PACKAGE / f"{module}.py"]


def nodes(module: str):
    """All nodes of a module's syntax trees."""
    return (node for path in files(module) for node in ast.walk(tree(path)))


def imports(path: Path | str, top_level_only: bool = False) -> set[str]:
    """
    Modules that a file, or a module by its name, imports: `.data` and `hf_unlearn.data` as "hf_unlearn.data", others
    by their first name. Files of one folder are one module.
    """
    if isinstance(path, str):
        return set().union(*(imports(file, top_level_only) for file in files(path)))
    found = set()
    body = tree(path)
    inside = path.parent.name if path.parent.parent == PACKAGE else None
    for node in body.body if top_level_only else ast.walk(body):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            if not (inside and node.level == 1):
                found.update(f"hf_unlearn.{name}" for name in names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module
            found.update([f"{module}.{a.name}" for a in node.names] if module == "hf_unlearn" else [module])
    return {name if name.startswith("hf_unlearn") else name.split(".")[0] for name in found}


def own(names: set[str]) -> set[str]:
    """The package's modules among imported names."""
    second = {name.split(".")[1] for name in names if name.startswith("hf_unlearn.")}
    return {name for name in second if name in modules()}


def modules() -> list[str]:
    folders = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    return sorted([*folders, *(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")])


def test_every_module_has_its_layer():
    assert set(modules()) == set(LAYERS)


@pytest.mark.parametrize("module", LAYERS)
def test_imports_go_down(module):
    for other in own(imports(module)):
        assert LAYERS[other] <= LAYERS[module], f"{module} (layer {LAYERS[module]}) imports {other} ({LAYERS[other]})"


def test_there_are_no_circles():
    needs = {module: own(imports(module)) for module in LAYERS}
    while needs:
        free = [module for module, others in needs.items() if not others & needs.keys()]
        assert free, f"a circle among {sorted(needs)}"
        for module in free:
            del needs[module]


@pytest.mark.parametrize("module", ["objectives", "meta", "schedule"])
def test_the_mathematics_knows_no_trainer(module):
    assert imports(module) <= STANDARD | {"torch"} | {f"hf_unlearn.{m}" for m in LAYERS}


LIGHT = ("options", "schedule", "records", "checkpoints", "memory")


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_the_standard_library_and_each_other_only(module):
    assert imports(module, top_level_only=True) <= STANDARD | {f"hf_unlearn.{m}" for m in LIGHT}


def test_the_report_never_imports_torch():
    reached, open_ = set(), {"report"}
    while open_:
        module = open_.pop()
        reached.add(module)
        found = imports(module)
        assert not found & {"torch", "transformers", "accelerate", "peft"}, module
        open_ |= own(found) - reached


def test_the_evaluation_imports_torch_only_where_a_model_is_run():
    assert not imports("evaluation", top_level_only=True) & {"torch", "transformers"}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("torch", "transformers", "accelerate", "datasets", "peft", "numpy", "sklearn", "matplotlib")
    loaded = python(
        "import hf_unlearn, hf_unlearn.options, sys; dir(hf_unlearn); hf_unlearn.__all__; hf_unlearn.ArgumentError\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_the_package_offers_what_it_lists():
    import hf_unlearn

    for name in hf_unlearn.__all__:
        assert getattr(hf_unlearn, name) is not None
    assert set(hf_unlearn.__all__) <= set(dir(hf_unlearn))
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = hf_unlearn.Trainer


def identifiers(path: Path) -> set[str]:
    """Names in code: not strings, so no doc strings and messages, and no comments."""
    text = path.read_text(encoding="utf-8")
    return {t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.NAME}


ENGINES = ("distributedtype", "deepspeed", "fsdp", "ddp", "distributeddataparallel", "fully_shard", "no_sync")
ENGINES += ("set_requires_gradient_sync", "require_backward_grad_sync")


@pytest.mark.parametrize("module", [m for m in LAYERS if m != "distributed"])
def test_engines_are_named_in_one_file_only(module):
    names = {name.lower() for path in files(module) for name in identifiers(path)}
    assert not [n for n in names if n in ENGINES or n.startswith(("is_fsdp", "is_deepspeed"))]
    for node in nodes(module):  # nor asked for by a string, as in hasattr(model, "no_sync")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("hasattr", "getattr"):
            asked = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            assert str(asked).lower() not in ENGINES, f"{module} line {node.lineno}"


def test_the_engines_are_found_where_they_are():
    """Keeps the test above from passing because it looks for nothing."""
    assert {"distributedtype", "no_sync"} <= {name.lower() for name in identifiers(PACKAGE / "distributed.py")}


def scripts() -> list[Path]:
    return sorted((ROOT / "recipes").rglob("*.py"))


def test_recipes_use_public_names():
    assert scripts()
    for path in scripts():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_unlearn"):
                assert not [a.name for a in node.names if a.name.startswith("_")], f"{path.name} line {node.lineno}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.startswith("_"):
                private = not node.attr.startswith("__") and node.value.id not in ("self", "cls")
                assert not private, f"{path.name} line {node.lineno}: {node.value.id}.{node.attr}"


def test_the_package_does_not_know_the_recipes_or_the_tests():
    for module in modules():
        assert not imports(module) & {"recipes", "tests", "tiny", "pytest"}


def test_no_asserts_for_users_and_no_prints():
    for module in modules():
        for node in nodes(module):
            assert not isinstance(node, ast.Assert), f"{module} line {node.lineno}"
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", "") != "print", f"{module} line {node.lineno}"
