"""The command line of `tracelet run`. To start fast, it imports neither the library nor the other commands.

This process becomes a new interpreter with the program's unmodified arguments. So CPython itself handles `__main__`,
tracebacks, exit codes and signals as for `python train.py`.
"""

from __future__ import annotations

import os
import sys

from tracelet.launcher import PLAN, PYTHONPATH_BEFORE
from tracelet.replacing import VARIABLE as REPLACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")
_COMPAT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "compat")
_FACADES = sorted(name for name in os.listdir(_COMPAT) if os.path.exists(os.path.join(_COMPAT, name, "aliases.py")))

SETTINGS: tuple[tuple[str, str, str | tuple[str, ...], str], ...] = (
    ("--backend", "backend", "NAMES", "comma-separated backends (default: journal only)"),
    ("--project", "project", "NAME", "project of the run"),
    ("--name", "exp_name", "NAME", "name of the run"),
    ("--tags", "tags", "WORDS", "comma-separated tags"),
    ("--notes", "notes", "TEXT", "notes about the run"),
    ("--group", "group", "NAME", "group of the run"),
    ("--mode", "mode", ("online", "offline", "disabled"), "offline: journal only, no network; disabled: no logging"),
    ("--delivery", "delivery", ("thread", "process"), "deliver in a thread of the program, or in a separate process"),
    ("--events", "events", ("sync", "async", "off"), "event files: written normally, in the background, or not at all"),
    ("--collect", "collect", "SOURCES", "comma-separated collectors: environment,git,git-diff,system,console, or none"),
    ("--system-interval", "system_interval", "SECONDS", "seconds between samples of system metrics"),
    ("--capture", "capture", "LIBRARIES", "comma-separated libraries to capture: tensorboard,wandb, or none"),
    ("--run-mode", "run_mode", ("auto", "new", "shared"), "runs of a distributed job: of rank 0, of each rank, of all"),
    ("--rank-scope", "rank_scope", ("global", "worker"), "ranks that belong together: all, or those of one node"),
    ("--children", "children", ("silent", "join"), "processes that the program starts: without a run, or in its run"),
    ("--dir", "dir", "FOLDER", "folder of the runs"),
    ("--root-logdir", "root_logdir", "FOLDER", "log directory whose tags get no prefix"),
    ("--backend-url", "backend_url", "URL", "server of the only backend"),
    ("--flush-timeout", "flush_timeout", "SECONDS", "longest wait for the backends at the end"),
    ("--connect-timeout", "connect_timeout", "SECONDS", "longest wait for the backends at the start"),
)
"""(option, setting, value, help). Each option sets the variable TRACELET_<SETTING> for this program."""
# There is no option for a credential: every user of the machine can read command lines.
_DESCRIPTION = """\
Run a Python program and log its TensorBoard calls to the run's journal and backends, without changing the program.
It gets the arguments after its name, and runs like `python PROGRAM`."""
_EPILOG = """\
Options of the interpreter: python -X dev -m tracelet run train.py. Arguments after `--` go to python unchanged.
Set the credential of a backend in TRACELET_API_KEY, or in the vendor's variable."""


_MISSING = "the program is missing. For example: tracelet run --backend csv train.py"
# They start `-m MODULE` in each process.
_LAUNCHERS = ("torchrun", "accelerate")


def main(words: Sequence[str]) -> NoReturn:
    """Replace this process with the program's interpreter. `words` are the arguments of `tracelet run`."""
    own, program = _split(words)
    options = _parse_simple(own) or _parse(own)
    if not program:
        _fail(_MISSING)
    program = _python_arguments(own, program)
    interpreter_options = _interpreter_options(sys.orig_argv, len(sys.argv))
    if _is_isolated([*interpreter_options, *program]):
        _fail("`tracelet run` does not work with python's options -I, -E and -S. Use `import tracelet.auto` instead")
    plan = {"verbose": options["verbose"], "arguments": _arguments(options), "replace": options["replace"]}
    environment = _environment(os.environ, options, repr(plan))
    if options["replace"] is not None:
        environment[REPLACE] = _replaced(options)
    os.execve(sys.executable, [sys.executable, *interpreter_options, *program], environment)


def _replaced(options: Mapping[str, Any]) -> str:
    """Return the name after `--replace`. Exit if there is no such facade, or the options are for one run."""
    name: str = options["replace"]
    if name not in _FACADES:
        _fail(f"--replace must be one of {', '.join(_FACADES)}, got {name!r}")
    if options["run_id"] is not None or options["resume"] is not None:
        _fail(f"with --replace {name}, the program starts its runs: set the id of a run there, not with --run-id")
    return name


def _python_arguments(own: Sequence[str], program: list[str]) -> list[str]:
    """Return the arguments of python without the interpreter's name. Reject a command that is no Python program."""
    first, *rest = program
    name = os.path.basename(first)
    is_python = name.rstrip("0123456789.") == "python"
    is_program = os.path.isdir(first) if is_python and os.path.dirname(first) else os.path.exists(first)
    if first.startswith("-") or is_program:
        return program
    import shlex
    import shutil  # a slow import, and only needed if the program is no file

    path = shutil.which(first)
    if is_python:
        if path is not None and os.path.dirname(os.path.abspath(path)) != os.path.dirname(sys.executable):
            typed = shlex.join([first, "-m", "tracelet", "run", *own, *rest])
            _fail(f"{first} is not the interpreter of this tracelet, {sys.executable}. Use: {typed}")
        return rest or _fail(_MISSING)
    if path is None:
        return program  # python reports it
    if name in _LAUNCHERS:
        start = next((index for index, word in enumerate(rest) if word == "-m" or word.endswith(".py")), len(rest))
        typed = shlex.join([first, *rest[:start], "-m", "tracelet", "run", *own, *rest[start:]])
        _fail(f"{name} starts processes of its own. To log a run in each, use: {typed}")
    with open(path, "rb") as file:
        if b"python" not in file.readline(200):
            _fail(f"{name} is not a Python program. Name a script, or -m and a module")
    typed = shlex.join(["tracelet", "run", *own, path, *rest])
    return _fail(f"there is no file {first!r}. To run the command {name}, use: {typed}")


def _parse_simple(own: Sequence[str]) -> dict[str, Any] | None:
    """Parse valid options like argparse, whose import takes most of the time that this command adds to a start.

    Return None if argparse must parse them, for example to report an error.
    """
    options = dict.fromkeys(_NAMES)
    rest = iter(own)
    for word in rest:
        option, equals, inline = word.partition("=")
        if word in _SWITCHES:
            name, value = _SWITCHES[word]
            if options[name] is not None:
                return None
            options[name] = value
            continue
        if option not in _TAKING_A_VALUE:
            return None
        name, takes = _TAKING_A_VALUE[option]
        text = inline if equals else next(rest, "-")
        if (text.startswith("-") and not equals) or (isinstance(takes, tuple) and text not in takes):
            return None
        if name == "config":
            options[name] = [*(options[name] or ()), text]
            continue
        try:
            options[name] = float(text) if takes == "SECONDS" else text
        except ValueError:
            return None
    return options


def _parse(own: Sequence[str]) -> dict[str, Any]:
    parser = _parser()
    options, unknown = parser.parse_known_args(own)
    if unknown:
        parser.error(_unknown(unknown[0], parser))
    return vars(options)


def _fail(message: str) -> NoReturn:
    _parser().error(message)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into options of tracelet and arguments of python.

    The latter begin at the first non-option, at `-m`, or after `--`.
    """
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--":
            return list(words[:index]), list(words[index + 1 :])
        if word.startswith("-m"):
            rest = list(words[index + 1 :])
            return list(words[:index]), ["-m", word[2:], *rest] if word[2:] else ["-m", *rest]
        if word == "-" or not word.startswith("-"):
            return list(words[:index]), list(words[index:])
        index += 2 if word in _TAKING_A_VALUE else 1
    return list(words), []


def _is_isolated(words: Sequence[str]) -> bool:
    """Return True if python's options at the start of `words` disable the environment or `site`: -I, -E, -S."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word in ("-", "--"):
            return False
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(rest, None)
            continue
        for end, letter in enumerate(word[1:], 2):
            if letter in "IES":
                return True
            if letter in "cm":  # the program follows
                return False
            if letter in "WX":  # the value follows, in this word or the next
                if not word[end:]:
                    next(rest, None)
                break
    return False


def _unknown(word: str, parser: argparse.ArgumentParser) -> str:
    from tracelet.errors import suggest  # only if there is an error

    option = word.partition("=")[0]
    known = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
    return f"unknown option {option}. {suggest(option.lstrip('-'), known, '--')}"


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="tracelet run",
        usage="tracelet run [options] [-m] PROGRAM [ARGUMENTS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    for option, setting, takes, help in SETTINGS:
        if isinstance(takes, tuple):
            parser.add_argument(option, dest=setting, choices=takes, help=help)
        else:
            kind = float if takes == "SECONDS" else str
            parser.add_argument(option, dest=setting, metavar=takes, type=kind, help=help)
    parser.add_argument(
        "--no-wait", dest="wait", action="store_const", const="false", help="start without waiting for the backends"
    )
    parser.add_argument(
        "--replace",
        metavar="PACKAGE",
        help=f"let the program's imports of PACKAGE find tracelet's own ({', '.join(_FACADES)})",
    )
    parser.add_argument("--run-id", metavar="ID", help="id of a new run, or of a run to resume")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="require that the run --run-id exists, or is new",
    )
    parser.add_argument(
        "--config",
        action="append",
        metavar="KEY=VALUE",
        help="backend config; BACKEND.KEY=VALUE with several backends. Repeatable",
    )
    verbosity = parser.add_mutually_exclusive_group()
    verbosity.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=None,
        help="print the location and the result of the run on stderr, even if it is not a terminal",
    )
    verbosity.add_argument("-q", "--quiet", dest="verbose", action="store_false", help="print warnings and errors only")
    return parser


_TAKING_A_VALUE = {option: (setting, takes) for option, setting, takes, _ in SETTINGS} | {
    "--run-id": ("run_id", "ID"),
    "--replace": ("replace", "PACKAGE"),
    "--config": ("config", "KEY=VALUE"),
}
_SWITCHES = {
    "--no-wait": ("wait", "false"),
    **dict.fromkeys(("-v", "--verbose"), ("verbose", True)),
    **dict.fromkeys(("-q", "--quiet"), ("verbose", False)),
    "--resume": ("resume", True),
    "--no-resume": ("resume", False),
}
_NAMES = [name for name, _ in (*_TAKING_A_VALUE.values(), *_SWITCHES.values())]


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of start_logging that are not settings."""
    config: dict[str, Any] = {}
    for pair in options["config"] or ():
        name, equals, value = pair.partition("=")
        first, dot, key = name.partition(".")
        if not equals:
            _fail(f"--config must be KEY=VALUE or BACKEND.KEY=VALUE, got {pair!r}")
        previous = config.get(first)
        if previous is not None and isinstance(previous, dict) != bool(dot):
            _fail(f"--config {pair!r}: {first!r} is used both as a key and as a backend")
        if dot:
            config.setdefault(first, {})[key] = value
        else:
            config[name] = value
    arguments = {"run_id": options["run_id"], "resume": options["resume"], "config": config or None}
    return {name: value for name, value in arguments.items() if value is not None}


def _environment(environ: Mapping[str, str], options: Mapping[str, Any], plan: str) -> dict[str, str]:
    environment = dict(environ)
    if _is_locale_coerced(environ):
        del environment["LC_CTYPE"]
    for setting in [setting for _, setting, *_ in SETTINGS] + ["wait"]:
        if options[setting] is not None:
            variable = f"TRACELET_{setting.upper()}"
            environment.pop(variable, None)
            environment[variable] = str(options[setting])  # last, so that it overrides an alias of the setting
    before = environment.get("PYTHONPATH")
    if before is not None:
        environment[PYTHONPATH_BEFORE] = before
    environment["PYTHONPATH"] = os.pathsep.join([SITE, before] if before else [SITE])
    environment[PLAN] = plan
    return environment


def _is_locale_coerced(environ: Mapping[str, str]) -> bool:
    """Return True if no locale was set and this interpreter chose UTF-8 (PEP 538, 540).

    The program's interpreter must choose again: it does not enable UTF-8 mode if a locale is set.
    """
    is_requested = environ.get("PYTHONUTF8") or "utf8" in sys._xoptions
    return bool(sys.flags.utf8_mode and not is_requested and environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"))


def _interpreter_options(words: Sequence[str], argument_count: int) -> list[str]:
    """Return the options before `-m tracelet` on this interpreter's command line, for the program's interpreter.

    `argument_count` is the length of sys.argv. Ignore options in the first line of a console script.
    """
    match words[1 : len(words) - argument_count + 1]:
        case [*options, last, "tracelet"] if last.startswith("-") and last.endswith("m"):
            cluster = last[:-1]  # python -um tracelet
        case [*options, last] if last.startswith("-") and last.endswith("mtracelet"):
            cluster = last.removesuffix("mtracelet")
        case _:
            return []
    return [*options, *([cluster] if cluster != "-" else [])]
