"""The command line of `tracelet run`. It imports neither the library nor the other commands: the program is waiting.

Nothing of the program runs in this interpreter. It is replaced by a new one that gets the program's words as they are,
so that what CPython does for `python train.py` (`__main__`, tracebacks, exit codes, signals) is done by CPython.
"""

from __future__ import annotations

import os
import sys

from tracelet.launcher import PLAN, PYTHONPATH_BEFORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")

SETTINGS: tuple[tuple[str, str, str | tuple[str, ...], str], ...] = (
    ("--backend", "backend", "NAMES", "one name, or several with commas; without any, the journal alone"),
    ("--project", "project", "NAME", "the run's project"),
    ("--name", "exp_name", "NAME", "the run's name"),
    ("--tags", "tags", "WORDS", "words to find the run by, with commas"),
    ("--notes", "notes", "TEXT", "a sentence about the run"),
    ("--group", "group", "NAME", "runs that belong together"),
    ("--mode", "mode", ("online", "offline", "disabled"), "offline: the journal alone, no socket; disabled: nothing"),
    ("--delivery", "delivery", ("thread", "process"), "where backends work: in the program, or in a process beside it"),
    ("--events", "events", ("sync", "async", "off"), "event files: as ever, encoded behind the program, or none"),
    ("--collect", "collect", "SOURCES", "what is collected besides: environment,git,git-diff,system,console, or none"),
    ("--system-interval", "system_interval", "SECONDS", "from one sample of the system's figures to the next"),
    ("--dir", "dir", "FOLDER", "where run folders are made"),
    ("--root-logdir", "root_logdir", "FOLDER", "the log directory whose tags have no prefix"),
    ("--backend-url", "backend_url", "URL", "the one backend's server"),
    ("--flush-timeout", "flush_timeout", "SECONDS", "how long the end of the run may wait for its backends"),
    ("--connect-timeout", "connect_timeout", "SECONDS", "how long the beginning may wait for its backends"),
)
"""(option, setting, what it takes, help). An option is the variable TRACELET_<SETTING>, for this program alone."""
# A command line is readable by everybody on the machine: there is no option for a credential.
_DESCRIPTION = """\
Run a Python program with everything that it tells TensorBoard carried to the run's journal and backends, without
changing a line of it. It gets the arguments after its name, and runs as `python PROGRAM` would run it."""
_EPILOG = """\
Options of the interpreter: python -X dev -m tracelet run train.py. What stands after `--` goes to python as it is.
The credential of a backend is taken from TRACELET_API_KEY, or from the vendor's own variable."""


def main(words: Sequence[str]) -> NoReturn:
    """Become the interpreter of the program that `words` (what stands after `tracelet run`) ask for."""
    own, program = _split(words)
    told = _read_plain(own) or _parsed(own)
    if not program:
        _fail("which program? For example: tracelet run --backend csv train.py")
    options = _interpreter_options(sys.orig_argv, len(sys.argv))
    if _looks_at_nothing([*options, *program]):
        _fail("under python's -I, -E and -S no run can begin by itself; use `import tracelet.auto`")
    plan = {"verbose": told["verbose"], "arguments": _arguments(told)}
    environment = _environment(os.environ, told, repr(plan))
    os.execve(sys.executable, [sys.executable, *options, *program], environment)


def _read_plain(own: Sequence[str]) -> dict[str, Any] | None:
    """What argparse would make of options without a mistake, read without it: its import takes most of what this
    command adds to a start. None where argparse is to say."""
    told = dict.fromkeys(_NAMES)
    rest = iter(own)
    for word in rest:
        option, equals, given = word.partition("=")
        if word in _SWITCHES:
            name, value = _SWITCHES[word]
            if told[name] is not None:
                return None
            told[name] = value
            continue
        if option not in _TAKING_A_VALUE:
            return None
        name, takes = _TAKING_A_VALUE[option]
        text = given if equals else next(rest, "-")
        if (text.startswith("-") and not equals) or (isinstance(takes, tuple) and text not in takes):
            return None
        if name == "config":
            told[name] = [*(told[name] or ()), text]
            continue
        try:
            told[name] = float(text) if takes == "SECONDS" else text
        except ValueError:
            return None
    return told


def _parsed(own: Sequence[str]) -> dict[str, Any]:
    parser = _parser()
    told, unknown = parser.parse_known_args(own)
    if unknown:
        parser.error(_unknown(unknown[0], parser))
    return vars(told)


def _fail(message: str) -> NoReturn:
    _parser().error(message)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is ours, and python's words for the program: from the first one that is no option, `-m`, or after `--`."""
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return list(words[:at]), list(words[at + 1 :])
        if word.startswith("-m"):
            rest = list(words[at + 1 :])
            return list(words[:at]), ["-m", word[2:], *rest] if word[2:] else ["-m", *rest]
        if word == "-" or not word.startswith("-"):
            return list(words[:at]), list(words[at:])
        at += 2 if word in _TAKING_A_VALUE else 1
    return list(words), []


def _looks_at_nothing(words: Sequence[str]) -> bool:
    """Whether python's options, which `words` begin with, are to leave out the environment or `site`: -I, -E, -S."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word in ("-", "--"):
            return False
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(rest, None)
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter in "IES":
                return True
            if letter in "cm":  # what follows is the program
                return False
            if letter in "WX":  # what follows, here or in the next word, is its value
                if not word[at:]:
                    next(rest, None)
                break
    return False


def _unknown(word: str, parser: argparse.ArgumentParser) -> str:
    from tracelet.errors import suggest  # here: most command lines have no mistake

    option = word.partition("=")[0]
    known = [one.removeprefix("--") for one in parser._option_string_actions if one.startswith("--")]
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
        "--no-wait", dest="wait", action="store_const", const="false", help="connect behind the program"
    )
    parser.add_argument("--run-id", metavar="ID", help="of a run to begin, or of one to go on with")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, help="the run --run-id must, or must not, be there already"
    )
    parser.add_argument(
        "--config",
        action="append",
        metavar="KEY=VALUE",
        help="a key of the backend's config; with several backends BACKEND.KEY=VALUE. Repeatable",
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=None,
        help="say on stderr where the run is, and what became of it, also where stderr is no terminal",
    )
    loudness.add_argument(
        "-q", "--quiet", dest="verbose", action="store_false", help="say what goes wrong alone, also on a terminal"
    )
    return parser


_TAKING_A_VALUE = {option: (setting, takes) for option, setting, takes, _ in SETTINGS} | {
    "--run-id": ("run_id", "ID"),
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


def _arguments(told: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of start_logging that are no settings."""
    config: dict[str, Any] = {}
    for pair in told["config"] or ():
        name, equals, value = pair.partition("=")
        first, dot, key = name.partition(".")
        if not equals:
            _fail(f"--config {pair!r}: say KEY=VALUE, or BACKEND.KEY=VALUE")
        before = config.get(first)
        if before is not None and isinstance(before, dict) != bool(dot):
            _fail(f"--config {pair!r}: {first!r} is said to be a key, and to be a backend with keys")
        if dot:
            config.setdefault(first, {})[key] = value
        else:
            config[name] = value
    arguments = {"run_id": told["run_id"], "resume": told["resume"], "config": config or None}
    return {name: value for name, value in arguments.items() if value is not None}


def _environment(environ: Mapping[str, str], told: Mapping[str, Any], plan: str) -> dict[str, str]:
    environment = dict(environ)
    if _locale_is_pythons(environ):
        del environment["LC_CTYPE"]
    for setting in [setting for _, setting, *_ in SETTINGS] + ["wait"]:
        if told[setting] is not None:
            variable = f"TRACELET_{setting.upper()}"
            environment.pop(variable, None)
            environment[variable] = str(told[setting])  # the last: it also wins over the setting's other name
    before = environment.get("PYTHONPATH")
    if before is not None:
        environment[PYTHONPATH_BEFORE] = before
    environment["PYTHONPATH"] = os.pathsep.join([SITE, before] if before else [SITE])
    environment[PLAN] = plan
    return environment


def _locale_is_pythons(environ: Mapping[str, str]) -> bool:
    """Whether nobody set a locale, and this interpreter took UTF-8 (PEP 538, 540). The program's own does it again: it
    would not turn to UTF-8 mode for a locale that it finds set."""
    asked_for = environ.get("PYTHONUTF8") or "utf8" in sys._xoptions
    return bool(sys.flags.utf8_mode and not asked_for and environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"))


def _interpreter_options(words: Sequence[str], given: int) -> list[str]:
    """What stands before `-m tracelet` on this interpreter's command line: the program's is to have it, too.

    `given` is the length of sys.argv. Options in the first line of a console script are not the program's.
    """
    match words[1 : len(words) - given + 1]:
        case [*options, last, "tracelet"] if last.startswith("-") and last.endswith("m"):
            cluster = last[:-1]  # python -um tracelet
        case [*options, last] if last.startswith("-") and last.endswith("mtracelet"):
            cluster = last.removesuffix("mtracelet")
        case _:
            return []
    return [*options, *([cluster] if cluster != "-" else [])]
