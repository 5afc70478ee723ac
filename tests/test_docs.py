"""The documentation is true: its programs run, and it knows every setting."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from programs import run_program
from support import REPOSITORY

import tracelet
from tracelet import settings
from tracelet.backends import _BUILTIN, backend_class
from tracelet.cli import app
from tracelet.launcher import command
from tracelet.settings import Settings

ROOT = REPOSITORY
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```python[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^( *)```(?:bash|console)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
TOML = re.compile(r"^( *)```toml\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
EXCUSE = re.compile(r"<!-- not run: \S.*-->\s*$")

# Blocks see each other's names, as for somebody who types a page from its top; an error has the page's own line number.
RUNNER = """
import pathlib, sys, textwrap, tracelet
names = {"tracelet": tracelet, "__name__": "page"}
for line, block in BLOCKS:
    exec(compile("\\n" * line + textwrap.dedent(block), PAGE, "exec"), names)
tracelet.stop_logging()
"""


def blocks_of(page: Path) -> list[tuple[int, str]]:
    """The page's python blocks with the number of lines before each, but for those with an excuse right above."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start(2)].count("\n"), match[2])
        for match in BLOCK.finditer(text)
        if not EXCUSE.search(text[: match.start()])
    ]


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=page_id)
def test_the_programs_of_a_page_run(page, tmp_path, monkeypatch):
    """All python blocks of a page, in order, in one program, in an empty folder, without an account."""
    program = f"PAGE = {page_id(page)!r}\nBLOCKS = {blocks_of(page)!r}\n{RUNNER}"
    for name in ("TRACELET_COLLECT", *(f"WANDB_{kind}DIR" for kind in ("", "CACHE_", "CONFIG_", "DATA_"))):
        monkeypatch.delenv(name)
    ours = {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "CLEARML_OFFLINE_MODE": "1",
        "CLEARML_CACHE_DIR": str(tmp_path / "clearml"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACELET_DIR": str(tmp_path / "runs"),
        "MPLBACKEND": "agg",
    }

    done = run_program(program, deadline=240, **ours)

    assert 0 == done.returncode, done.err


def command_lines() -> Iterator[list[str]]:
    """What stands behind `tracelet` in the pages' shell blocks, word by word."""
    for page in PAGES:
        for block in SHELL.finditer(page.read_text(encoding="utf-8")):
            for line in block[2].replace("\\\n", " ").splitlines():
                words = shlex.split(line.partition(" | ")[0], comments=True)
                if "tracelet" in words:
                    yield words[words.index("tracelet") + 1 :]


def test_every_command_line_is_understood():
    """By the command that it names: its options, and how many arguments. What commands do is tested with them."""
    commands = dict.fromkeys(typer.main.get_command(app).commands, 0)
    for name, *words in command_lines():
        if name == "run":
            own, program = command._split(words)
            assert program, words
            assert command._parse_simple(own) is not None, words
        elif name not in ("--help", "--install-completion"):
            typer.main.get_command(app).commands[name].make_context(name, list(words)).close()
            commands[name] += 1
    assert min(commands[name] for name in ("compare", "gc", "import", "rm", "runs", "show", "sync", "view")) > 0


def test_every_settings_file_is_understood(tmp_path):
    """Of the pages' TOML, what is no part of a `pyproject.toml`."""
    blocks = [match[2] for page in PAGES for match in TOML.finditer(page.read_text(encoding="utf-8"))]
    ours = [block for block in blocks if not block.startswith("[project")]
    assert ours
    for block in ours:
        (tmp_path / "tracelet.toml").write_text(block, encoding="utf-8")
        assert settings.load({}, {"TRACELET_CONFIG": str(tmp_path / "tracelet.toml")}) != Settings()


def test_every_setting_is_explained():
    """configuration.md names every setting and its variable."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    for name in Settings.__struct_fields__:
        assert f"| `{name}` | `TRACELET_{name.upper()}`" in page


@pytest.mark.parametrize("name", sorted(set(_BUILTIN) - {"memory"}))
def test_every_key_of_a_backend_is_explained(name):
    """A backend's page names every key that its `config` takes."""
    page = (ROOT / "docs" / "backends" / f"{name}.md").read_text(encoding="utf-8")

    assert [] == [key for key in backend_class(name).Config.__struct_fields__ if f"`{key}`" not in page]


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

    assert [] == [name for name in tracelet.__all__ if f"tracelet.{name}" not in page]


def test_links_to_files_of_the_repository_lead_somewhere():
    """Relative links of the pages that are read without the site, too."""
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page_id(page)}: {target}"


def test_every_method_of_the_writers_is_listed():
    """what-is-carried.md names every public add_* method of either library."""
    tensorboardx = importlib.import_module("tensorboardX")
    torch_writer = importlib.import_module("torch.utils.tensorboard")
    page = (ROOT / "docs" / "what-is-carried.md").read_text(encoding="utf-8")
    methods = {*dir(tensorboardx.SummaryWriter), *dir(torch_writer.SummaryWriter)}

    assert [] == [name for name in sorted(methods) if name.startswith("add_") and f"`{name}`" not in page]
