"""The house: imports go one way, rooms hold no circles, the light modules stay light, engines are named in one file."""

from __future__ import annotations

import ast
import functools
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hf_unlearn"
# From the top down: a room may import its own floor and those below it.
FLOORS = (
    ("__init__", "__main__"),
    ("cli",),
    ("trainers",),
    ("readiness", "unlearning", "evaluation", "report", "memory", "metrics"),
    ("options", "config"),
    ("data", "objectives"),
    ("utils",),
)
FLOOR_OF = {room: len(FLOORS) - 1 - k for k, rooms in enumerate(FLOORS) for room in rooms}
LATE = {("evaluation.scorecard", "report")}  # imports inside a function, where the other way round is the usual one
PEFT_METHOD = tuple(f"readiness.memory.{name}" for name in ("config", "model", "layer", "passing"))  # a method of PEFT
REGISTRIES = ("objectives.registry", "evaluation.attacks.registry")  # import the files of their folders, unnamed
STANDARD = set(sys.stdlib_module_names)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    """`trainers/ready.py` -> "trainers.ready", `data/__init__.py` -> "data", `__init__.py` -> "__init__"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def at_import(body: list[ast.stmt]):
    """The statements that run when a module is imported: not those inside functions or `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from at_import([*node.body, *getattr(node, "orelse", [])])


@functools.cache
def imports(module: str, top_level_only: bool = False) -> frozenset[str]:
    """
    What a module imports: modules of the package by their name in MODULES, others by their first name. Imports for
    type checkers alone do not count.
    """
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    package = "" if module in ("__init__", "__main__") else package
    checked = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in at_import(tree(path).body) if top_level_only else ast.walk(tree(path)):
        if id(node) in checked:
            continue
        if isinstance(node, ast.Import):
            found |= {own_name(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".") if package else []
                above = above[: len(above) - node.level + 1]
                base = ".".join(["hf_unlearn", *above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = own_name(f"{base}.{alias.name}")
                found.add(inner if inner in MODULES else own_name(base))
    return frozenset(found)


def needs(module: str) -> set[str]:
    """The modules that a module imports, by name or, as a registry, by its folder."""
    found = own(imports(module)) - {module}
    if module in REGISTRIES:
        found |= {name for name in MODULES if name.rpartition(".")[0] == module.rpartition(".")[0]} - {module}
    return found


def own_name(dotted: str) -> str:
    if dotted == "hf_unlearn":
        return "__init__"
    if dotted.startswith("hf_unlearn."):
        return dotted.removeprefix("hf_unlearn.")
    return dotted.split(".")[0]


def own(names: set[str]) -> set[str]:
    return {name for name in names if name in MODULES}


def room_of(module: str) -> str:
    return module.split(".")[0]


def test_every_room_has_its_floor():
    assert {room_of(module) for module in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    for other in own(imports(module)) - {"__init__"}:  # public names may be asked for from anywhere, late
        mine, theirs = room_of(module), room_of(other)
        assert FLOOR_OF[theirs] <= FLOOR_OF[mine], f"{module} (floor {FLOOR_OF[mine]}) imports {other}"
    assert "__init__" not in imports(module, top_level_only=True) or module == "__main__"


def circle(needs: dict[str, set[str]]) -> set[str]:
    """The nodes of a graph that no order can bring behind what they need; empty where there is no circle."""
    needs = {name: {other for other in others if other != name} for name, others in needs.items()}
    while free := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in free:
            del needs[name]
    return set(needs)


def test_there_are_no_circles_between_rooms_of_a_floor():
    rooms: dict[str, set[str]] = {room: set() for room in FLOOR_OF}
    for module in MODULES:
        for other in own(imports(module)) - {"__init__"}:
            if (module, room_of(other)) not in LATE:
                rooms[room_of(module)].add(room_of(other))
    assert not circle(rooms)


@pytest.mark.parametrize("room", FLOOR_OF)
def test_there_are_no_circles_inside_a_room(room):
    inside = {module for module in MODULES if room_of(module) == room}
    assert not circle({module: needs(module) & inside for module in inside})


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c", "d"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == set()


def test_the_report_is_imported_by_the_evaluation_in_one_function_only():
    for module in MODULES:
        if room_of(module) == "evaluation" and any(room_of(name) == "report" for name in own(imports(module))):
            assert (module, "report") in LATE
            assert not any(room_of(name) == "report" for name in own(imports(module, top_level_only=True)))


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) in ("objectives", "readiness", "unlearning")])
def test_the_mathematics_knows_no_trainer(module):
    allowed = STANDARD | {"torch", "numpy"} | set(MODULES)
    allowed |= {"peft", "transformers"} if module in PEFT_METHOD else set()
    assert imports(module) <= allowed


LIGHT = ("options", "utils.checks", "utils.files", "utils.lazy", "utils.versions")
LIGHT += ("unlearning.schedule", "unlearning.stop_rule", "trainers.records")
LIGHT += ("memory", "memory.__main__", "memory.run", "memory.estimate")
LIGHT += tuple(module for module in MODULES if room_of(module) == "objectives")  # the registry imports all of them


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_the_standard_library_and_light_modules_only(module):
    reached, open_ = set(), {module}
    while open_:
        name = open_.pop()
        reached.add(name)
        found = imports(name, top_level_only=True)
        assert found <= STANDARD | set(MODULES), f"{module}, by way of {name}"
        open_ |= own(found) - reached


def test_the_report_never_imports_torch():
    reached, open_ = set(), {module for module in MODULES if room_of(module) == "report"}
    while open_:
        module = open_.pop()
        reached.add(module)
        found = imports(module)
        assert not found & {"torch", "transformers", "accelerate", "peft"}, module
        open_ |= own(found) - reached


def test_the_evaluation_imports_torch_only_where_a_model_is_run():
    for module in MODULES:
        if room_of(module) == "evaluation":
            assert not imports(module, top_level_only=True) & {"torch", "transformers"}, module


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


ENGINE_IDENTIFIERS = ("distributedtype", "deepspeed", "fsdp", "ddp", "distributeddataparallel", "fully_shard")
ENGINE_IDENTIFIERS += ("no_sync", "set_requires_gradient_sync", "require_backward_grad_sync")


@pytest.mark.parametrize("module", [m for m in MODULES if m != "trainers.engines"])
def test_engines_are_named_in_one_file_only(module):
    path = MODULES[module]
    names = {name.lower() for name in identifiers(path)}
    assert not [n for n in names if n in ENGINE_IDENTIFIERS or n.startswith(("is_fsdp", "is_deepspeed"))]
    for node in ast.walk(tree(path)):  # nor asked for by a string, as in hasattr(model, "no_sync")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("hasattr", "getattr"):
            asked = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            assert str(asked).lower() not in ENGINE_IDENTIFIERS, f"{module} line {node.lineno}"


def test_the_engines_are_found_where_they_are():
    """Keeps the test above from passing because it looks for nothing."""
    assert {"distributedtype", "no_sync"} <= {name.lower() for name in identifiers(MODULES["trainers.engines"])}


def scripts() -> list[Path]:
    return sorted((ROOT / "recipes").rglob("*.py"))


@pytest.mark.parametrize("path", [*scripts(), *(MODULES[m] for m in MODULES if room_of(m) == "cli")], ids=str)
def test_recipes_and_verbs_use_public_names(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("hf_unlearn")):
            private = [a.name for a in node.names if a.name.startswith("_")]
            assert node.level == 1 or not private, f"{path.name} line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.startswith("_"):
            private = not node.attr.startswith("__") and node.value.id not in ("self", "cls")
            assert not private, f"{path.name} line {node.lineno}: {node.value.id}.{node.attr}"


def test_there_are_recipes():
    assert len(scripts()) > 4


def test_the_package_does_not_know_the_recipes_or_the_tests():
    for module in MODULES:
        assert not imports(module) & {"recipes", "tests", "helpers", "pytest"}


def test_no_asserts_for_users_and_prints_only_in_verbs():
    for module, path in MODULES.items():
        for node in ast.walk(tree(path)):
            assert not isinstance(node, ast.Assert), f"{module} line {node.lineno}"
            if isinstance(node, ast.Call) and room_of(module) != "cli":
                assert getattr(node.func, "id", "") != "print", f"{module} line {node.lineno}"
