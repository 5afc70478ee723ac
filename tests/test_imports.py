"""The floors of the house: who may know whom, where a vendor may be named, and where the broad `except` stands."""

import ast
import re
from pathlib import Path

import pytest

import tracelet

ROOT = Path(tracelet.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# From the ground up: a module imports from lower floors, and from its own package.
FLOORS = (
    ("checksum", "errors", "mounts", "records", "version"),
    ("guard", "naming", "accessors", "filters", "redaction"),
    ("identity", "settings", "journal", "spool", "snapshot", "backends.base", "collectors.base"),
    ("figures", "intake", "pace", "progress", "standing", "tail", "watching"),
    ("delivery", "keeper", "interceptors", "backends", "collectors", "program"),
    ("worker",),
    ("orchestrator", "artifacts", "logcalls", "notebook", "report"),
    ("charts", "collecting", "gallery", "words"),
    ("experiment", "sync", "importer", "comparison", "plot", "housekeeping", "doctor"),
    ("api", "page", "plain", "testing"),
    ("auto", "integrations", "launcher"),
    ("cli", "__init__"),
    ("__main__",),
)
VENDORS = ("wandb", "mlflow", "clearml", "aim")


def name(path):
    """`backends.csvfile`, `api`, `__init__`, `cli` for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name(path): path for path in FILES}


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path):
    """The modules of ours that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import(names=names):
                full = {one.name for one in names}
            case ast.ImportFrom(module=module, names=names, level=0):
                full = {f"{module}.{one.name}" for one in names}
            case ast.ImportFrom(level=level):
                raise AssertionError(f"{path}: a relative import ({level} dots)")
            case _:
                continue
        for one in full:
            top, _, rest = one.partition(".")
            if top == "tracelet":
                while rest and rest not in MODULES:
                    rest = rest.rpartition(".")[0]
                found.add(rest or "__init__")
    return found


def floor(module):
    for name in (module, module.partition(".")[0]):
        for number, modules in enumerate(FLOORS):
            if name in modules:
                return number
    raise AssertionError(f"{module} has no floor yet: give it one in tests/test_imports.py and in the design")


def package(module):
    return module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_below(module):
    """Nothing knows what stands on it; packages know themselves."""
    wrong = {
        other
        for other in imported(MODULES[module])
        if floor(other) >= floor(module) and package(other) != package(module)
    }
    assert set() == wrong


@pytest.mark.parametrize("half", ["interceptors", "backends", "collectors"])
def test_the_halves_do_not_know_each_other(half):
    """Interceptors and collectors know `submit`, backends know records: neither reaches the other, nor the journal."""
    strangers = {"interceptors", "backends", "collectors", "delivery", "journal", "spool", "orchestrator"} - {half}
    known = {package(other) for module, path in MODULES.items() if package(module) == half for other in imported(path)}
    assert set() == known & strangers


def test_nobody_imports_the_package_root():
    """`import tracelet` inside tracelet is how import cycles begin."""
    assert set() == {module for module, path in MODULES.items() if "__init__" in imported(path)}


def docstrings(root):
    """Docstrings, and the strings that describe fields."""
    for node in ast.walk(root):
        for one in getattr(node, "body", []) if isinstance(getattr(node, "body", None), list) else []:
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                yield one.value


def words(path):
    """Names and strings of a file's code; comments and docstrings may tell of an incident with a vendor."""
    root = tree(path)
    told = {id(node) for node in docstrings(root)}
    for node in ast.walk(root):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.alias(name=word):
                yield word
            case ast.FunctionDef(name=word) | ast.ClassDef(name=word) | ast.keyword(arg=str(word)):
                yield word
            case ast.Constant(value=str(word)) if id(node) not in told:
                yield word
            case ast.ImportFrom(module=str(word)):
                yield word


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_is_named_in_its_own_files(vendor):
    """In backends/<vendor>*.py or backends/<vendor>/, in the registry, and in the typed accessors; nowhere else."""
    pattern = re.compile(rf"(?<![a-z]){vendor}(?![a-z])", re.IGNORECASE)
    named = {module for module, path in MODULES.items() if any(pattern.search(word) for word in words(path))}
    own = {module for module in MODULES if re.fullmatch(rf"backends\._?{vendor}[\w.]*", module)}
    assert set() == named - own - {"backends", "accessors"}


@pytest.mark.parametrize("module", MODULES)
def test_the_broad_except_stands_in_the_guard(module):
    """`except Exception`, `except BaseException` and the bare one: in guard.py, and nowhere else."""
    broad = []
    for node in ast.walk(tree(MODULES[module])):
        if isinstance(node, ast.ExceptHandler):
            caught = [None] if node.type is None else getattr(node.type, "elts", [node.type])
            broad += [
                node.lineno for one in caught if one is None or getattr(one, "id", "") in ("Exception", "BaseException")
            ]
    assert module == "guard" or [] == broad


@pytest.mark.parametrize("module", [one for one in MODULES if package(one) not in ("cli", "__main__")])
def test_only_the_command_line_prints(module):
    calls = (node for node in ast.walk(tree(MODULES[module])) if isinstance(node, ast.Call))
    assert [] == [call.lineno for call in calls if getattr(call.func, "id", "") == "print"]


ENVIRONMENT_READERS = ("settings", "backends", "cli", "launcher")


@pytest.mark.parametrize("module", [one for one in MODULES if package(one) not in ENVIRONMENT_READERS])
def test_only_the_settings_read_the_environment(module):
    """A vendor's own variables are its backend's affair, a terminal's (COLUMNS) the command line's, and the launcher
    hands a program its environment."""
    nodes = (node for node in ast.walk(tree(MODULES[module])) if isinstance(node, ast.Attribute))
    assert [] == [node.lineno for node in nodes if node.attr in ("environ", "getenv")]


def test_nothing_is_unpickled_or_executed():
    """What is read back from disk is data."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "eval", "exec"}
    found = {
        (module, word)
        for module, path in MODULES.items()
        for node in ast.walk(tree(path))
        for word in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.func.id]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            else []
        )
        if word in forbidden
    }
    assert set() == found
