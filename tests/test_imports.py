"""The floors of the package: which part imports which, where a vendor is named, and where the broad `except` is."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracelet

ROOT = Path(tracelet.__file__).parent

# From the ground up. A module imports from lower floors and from its own package; on the ground floor, also from its
# neighbours.
FLOORS = (
    "errors filesystem float64 forks guard proxy records redaction replacing replacing_metadata settings version",
    "backends capture collectors distributed journal",
    "delivery runs",
    "importer orchestrator",
    "experiment sync view",
    "api",
    "compat",
    "auto decorators doctor integrations launcher testing",
    "cli",
    "__init__ __main__",
)
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages.split()}
VENDORS = ("wandb", "mlflow", "clearml", "aim", "trackio")
MAY_NAME_VENDORS = {"backends", "experiment.native", "importer.stores"}
MAY_NAME_CAPTURED = {"settings", "launcher.command", "experiment.capturing"}
"""Where the libraries are listed that `capture` accepts."""
CAPTURED = ("wandb",)
READS_ENVIRONMENT = {"settings", "backends", "cli", "compat", "distributed", "launcher", "replacing"}
"""A vendor's own variables belong to its backend, another tracker's to `compat`, a terminal's (COLUMNS) to the command
line, those of `torchrun` and the like to `distributed`. The launcher and `replacing` pass an environment on."""


def module_name(path: Path) -> str:
    """`backends.csvfile`, `api`, `__init__`; `cli` for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def package(module: str) -> str:
    return module.partition(".")[0]


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(module: str) -> set[str]:
    """The modules of tracelet that `module` imports, also inside functions."""
    found = set()
    for node in ast.walk(tree(module)):
        match node:
            case ast.Import(names=names):
                full = {alias.name for alias in names}
            case ast.ImportFrom(module=str(source), names=names, level=0):
                full = {f"{source}.{alias.name}" for alias in names}
            case ast.ImportFrom(level=level):
                raise AssertionError(f"{module}: a relative import ({level} dots)")
            case _:
                continue
        for name in full:
            top, _, rest = name.partition(".")
            if top == "tracelet":
                while rest and rest not in MODULES:
                    rest = rest.rpartition(".")[0]
                found.add(rest or "__init__")
    return found


def imports_between_packages() -> Iterator[tuple[str, str]]:
    """(module, imported module) of different packages."""
    for module in MODULES:
        for other in imported(module):
            if package(other) != package(module):
                yield module, other


def calls(module: str) -> Iterator[tuple[str, int]]:
    """Names of the functions that `module` calls by a bare name, with their lines."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node.lineno


def test_every_package_has_a_floor():
    """A new package or module at the top gets its floor in the table above."""
    assert set(FLOOR) == {package(module) for module in MODULES}


def test_a_module_imports_from_below():
    """No import goes up or sideways. The pillars (backends, capture, collectors, distributed, journal) share one floor,
    so that none of them reaches another."""
    wrong = {
        f"{module} imports {other}"
        for module, other in imports_between_packages()
        if FLOOR[package(other)] >= FLOOR[package(module)] and (FLOOR[package(module)], FLOOR[package(other)]) != (0, 0)
    }
    assert set() == wrong


def test_no_module_imports_the_package_root():
    """`import tracelet` inside tracelet is how import cycles begin."""
    assert set() == {module for module in MODULES if "__init__" in imported(module)}


def docstrings(root: ast.AST) -> Iterator[ast.Constant]:
    """Docstrings, and the strings that describe fields."""
    for node in ast.walk(root):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.value


def words(module: str) -> Iterator[str]:
    """Names and strings of a module's code; comments and docstrings may describe an incident with a vendor."""
    described = {id(node) for node in docstrings(tree(module))}
    for node in ast.walk(tree(module)):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.alias(name=word):
                yield word
            case ast.FunctionDef(name=word) | ast.ClassDef(name=word) | ast.keyword(arg=str(word)):
                yield word
            case ast.Constant(value=str(word)) if id(node) not in described:
                yield word
            case ast.ImportFrom(module=str(word)):
                yield word


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_is_named_in_its_own_files(vendor):
    """In backends/<vendor>/, capture/<vendor>/ and importer/<vendor>/, in the registries, in the typed properties of
    the experiment, and in `compat` and `integrations.flyte`: the API of another tracker has the vendors' names. In no
    other file.

    A reader of a vendor's store is in importer/, as it needs the names of the backend and the conversions of capture,
    which cannot reach each other."""
    pattern = re.compile(rf"(?<![a-z]){vendor}(?![a-z])", re.IGNORECASE)
    named = {module for module in MODULES if any(pattern.search(word) for word in words(module))}
    own = {
        module
        for module in MODULES
        if re.fullmatch(rf"((backends|capture|importer)\.{vendor}|compat\.|integrations\.flyte)[\w.]*", module)
    }
    assert set() == named - own - MAY_NAME_VENDORS - (MAY_NAME_CAPTURED if vendor in CAPTURED else set())


def test_the_broad_except_is_in_the_guard():
    """`except Exception`, `except BaseException` and the bare one: in guard.py, and in no other file."""
    broad = set()
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ExceptHandler):
                caught = [None] if node.type is None else getattr(node.type, "elts", [node.type])
                if any(error is None or getattr(error, "id", "") in ("Exception", "BaseException") for error in caught):
                    broad.add(module)
    assert {"guard"} == broad


def test_only_the_command_line_prints():
    printing = {module for module in MODULES for name, _ in calls(module) if name == "print"}
    assert set() == {module for module in printing if package(module) not in ("cli", "__main__")}


def test_only_the_settings_read_the_environment():
    reading = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert set() == {module for module in reading if package(module) not in READS_ENVIRONMENT}


def test_nothing_is_unpickled_or_executed():
    """Bytes read back from disk are data."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "eval", "exec"}
    found = {(module, name) for module in MODULES for name, _ in calls(module)}
    found |= {
        (module, alias.name)
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    reminds_python_of_ctrl_c = {("experiment.exit", "exec")}  # a string of its own
    assert reminds_python_of_ctrl_c == {(module, name) for module, name in found if name in forbidden}
