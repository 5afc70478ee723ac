"""`tracelet run`: a program has a run, and cannot tell; nor can anybody who looks at its output and its exit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from backends import csv_store
from programs import DEADLINE, csv_values, ending, the_run

from tracelet import settings
from tracelet.journal.store import JournalReader
from tracelet.launcher import command
from tracelet.runs.folders import all_runs

LAUNCHER = ("-m", "tracelet", "run")
ENTRY = "import sys; from tracelet.__main__ import main; sys.exit(main())"
# Shells and containers often have no locale; Python then sets one in its own environment.
_LOCALE = ("LANG", "LC_ALL", "LC_CTYPE")


@pytest.fixture(autouse=True)
def _untouched(monkeypatch):
    """Nothing about interpreters is inherited that a test compares, but where the packages are."""
    for name in [name for name in os.environ if name.startswith("PYTHON") and name != "PYTHONPATH"]:
        monkeypatch.delenv(name)


def write(name, source):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return name


def python(*words, stdin="", **environment):
    """(exit code, stdout, stderr) of this interpreter with `words`."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def launched(*words, stdin="", **environment):
    """The same of `tracelet run` with `words`."""
    return python(*LAUNCHER, *words, stdin=stdin, **environment)


def the_same(*words, stdin="", **environment):
    """What both ways of running a program showed, after they have been compared."""
    plain, ours = python(*words, stdin=stdin, **environment), launched(*words, stdin=stdin, **environment)
    assert [one.splitlines() for one in plain[1:]] == [
        one.splitlines() for one in ours[1:]
    ]  # readable where it differs
    assert plain == ours
    return plain


# Ends.

ENDS = {
    "the end": ("print('done')", ("finished", 0)),
    "stderr": ("import sys; sys.stderr.write('a line')", ("finished", 0)),
    "exit 0": ("import sys; sys.exit(0)", ("finished", 0)),
    "exit None": ("import sys; sys.exit(None)", ("finished", 0)),
    "exit 3": ("import sys; sys.exit(3)", ("failed", 3)),
    "exit 300": ("import sys; sys.exit(300)", ("failed", 300 & 0xFF)),
    "exit text": ("import sys; sys.exit('a sentence')", ("failed", 1)),
    "SystemExit": ("raise SystemExit(4)", ("finished", 0)),
    "exit in a thread": (
        "import sys, threading; threading.Thread(target=sys.exit, args=(5,)).start()",
        ("finished", 0),
    ),
    "error": ("def f():\n    raise ValueError('boom')\n\nf()", ("failed", 1)),
    "error in line 1": ("1 / 0", ("failed", 1)),
    "chained": ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('x') from e", ("failed", 1)),
    "group": ("raise ExceptionGroup('two', [ValueError(1), TypeError(2)])", ("failed", 1)),
    "notes": ("e = ValueError('boom')\ne.add_note('a note')\nraise e", ("failed", 1)),
    "recursion": ("def f(n):\n    return f(n + 1)\n\nf(0)", ("failed", 1)),
    "import error": ("import no_such_module", ("failed", 1)),
    "interrupt": ("raise KeyboardInterrupt", ("killed", 130)),
    "thread error": (
        "import threading; t = threading.Thread(target=int, args='x'); t.start(); t.join()",
        ("finished", 0),
    ),
    "error at exit": ("import atexit; atexit.register(int, 'x')", ("finished", 0)),
    "own hook": ("import sys\nsys.excepthook = lambda *error: print('mine', error[:2])\n1 / 0", ("failed", 1)),
    "own hook fails": ("import sys\nsys.excepthook = lambda *error: {}['x']\n1 / 0", ("failed", 1)),
    "a warning": ("import warnings; warnings.warn('careful')", ("finished", 0)),
    "a warning of the caller": ("import warnings; warnings.warn('careful', stacklevel=2)", ("finished", 0)),
    "the stack": ("import inspect, traceback; traceback.print_stack(); print(len(inspect.stack()))", ("finished", 0)),
    "faulthandler": ("import faulthandler; faulthandler.dump_traceback(all_threads=False)", ("finished", 0)),
    "os._exit": ("import os; print('x', flush=True); os._exit(9)", ("running", None)),
    "abort": ("import os; print('x', flush=True); os.abort()", ("running", None)),
}


@pytest.mark.parametrize("way", ENDS)
def test_a_program_ends_as_without_it(way):
    """Exit code, stdout and stderr are byte for byte those of `python train.py`; the run knows how it ended."""
    if way in ("group", "notes") and sys.version_info < (3, 11):
        pytest.skip("Python 3.11 brought them")
    source, expected = ENDS[way]
    the_same(write("train.py", source))
    assert expected == ending(the_run())


@pytest.mark.parametrize("source", ["x = (", "return", "x = '\\ud800", "\tx = 1\n  y = 2"])
def test_a_program_that_is_no_python(source):
    """No line of it ran, so there is no run."""
    code, _, err = the_same(write("train.py", source))
    assert (1, True) == (code, "Error" in err)
    assert [] == all_runs(Path(os.environ["TRACELET_DIR"]))


@pytest.mark.parametrize(
    "words",
    [("nope.py",), ("-m", "nope"), ("-m", "nope.train"), ("-m",), (".",), ("-m", "json.nope"), ("-m", "train.py")],
)
def test_a_program_that_is_not_there(words):
    """The words and the exit code are the interpreter's."""
    code, _, err = the_same(*words)
    assert 0 != code
    assert "" != err
    assert [] == all_runs(Path(os.environ["TRACELET_DIR"]))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, -15), (signal.SIGHUP, -1)])
def test_signals(number, code, monkeypatch):
    """A signal that the program leaves alone ends it as ever, with the same last words."""
    monkeypatch.setenv("PYTHONNODEBUGRANGES", "1")  # the signal may come before the first half of the line is done
    program = write("train.py", "import time\nprint('ready', flush=True); time.sleep(60)\n")
    plain, ours = signalled([program], number), signalled([*LAUNCHER, program], number)
    assert plain == ours
    assert code == ours[0]
    if number != signal.SIGHUP:
        assert "killed" == ending(the_run())[0]


def test_the_programs_own_handler():
    """SIGTERM is the program's where it wants it."""
    source = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        print("ready", flush=True)
        time.sleep(60)
    """
    program = write("train.py", source)
    assert (7, "", "") == signalled([program], signal.SIGTERM) == signalled([*LAUNCHER, program], signal.SIGTERM)


def signalled(words, number):
    """(exit code, stdout, stderr) of a program that gets a signal once it has said a line."""
    pipe = subprocess.PIPE
    program = subprocess.Popen([sys.executable, *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        assert program.stdout.readline(), program.stderr.read()
        program.send_signal(number)
        out, err = program.communicate(timeout=DEADLINE)
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()
    return program.returncode, out, err


# What a program sees of its surroundings.

FACTS = """
    import json, locale, os, pickle, signal, sys, threading

    class Own:
        pass

    main = sys.modules["__main__"]
    print(json.dumps({
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "path": sys.path,
        "flags": list(sys.flags),
        "warnoptions": sys.warnoptions,
        "xoptions": sys._xoptions,
        "executable": sys.executable,
        "environ": dict(os.environ),
        "name": __name__,
        "file": globals().get("__file__"),
        "package": __package__,
        "spec": [getattr(__spec__, name, None) for name in ("name", "origin", "parent")],
        "loader": type(__loader__).__name__,
        "doc": __doc__,
        "names": sorted(globals()),
        "is main": main.__dict__ is globals(),
        "pickled": pickle.loads(pickle.dumps(Own())).__class__ is Own,
        "hooks": [repr(sys.excepthook), repr(sys.gettrace()), repr(sys.getprofile()), repr(threading.excepthook)],
        "sitecustomize": repr(sys.modules.get("sitecustomize")),
        "cached paths": [one for one in sys.path_importer_cache if one.endswith("first")],
        "interrupt": repr(signal.getsignal(signal.SIGINT)),
        "streams": [[one.encoding, one.errors, one.isatty(), one.line_buffering] for one in (sys.stdin, sys.stdout)],
        "locale": locale.setlocale(locale.LC_ALL),
        "input": sys.stdin.read(),
        "directory": os.getcwd(),
        "recursion": sys.getrecursionlimit(),
        "depth": sys._getframe().f_back is None,
    }, indent=1, sort_keys=True))
"""


@pytest.mark.parametrize("words", [("--lr", "0.1", "--backend", "gloo", "--help", "-m", "--", "-x"), ()])
def test_a_script_sees_what_it_saw(words):
    """Words, names, path, environment and input are the same; options after its name are its own."""
    program = write("train.py", FACTS)
    _, out, _ = the_same(program, *words, stdin="line 1\nline 2\n")
    assert ["train.py", *words] == json.loads(out)["argv"]
    assert ("finished", 0) == ending(the_run())


def test_an_absolute_path_elsewhere(tmp_path):
    """sys.path begins with the script's own folder, not with the working directory."""
    program = tmp_path / write("code/train.py", FACTS)
    write("code/helper.py", "")
    _, out, _ = the_same(program)
    assert str(tmp_path / "code") == json.loads(out)["path"][0]


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}/some/where{os.pathsep}else"},
        {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"},
        {"PYTHONUTF8": "1", "LANG": "C"},
        {"LC_ALL": "C.UTF-8"},
        {"LC_CTYPE": "C.UTF-8"},
        {"LANG": "C"},
        {"LC_ALL": "POSIX"},
    ],
    ids=" ".join,
)
def test_variables_of_the_interpreter(environment, monkeypatch):
    """What they say of paths, buffers, warnings and encodings holds for the program, and it finds them unchanged."""
    for name in _LOCALE:
        monkeypatch.delenv(name, raising=False)
    _, out, _ = the_same(write("train.py", FACTS), **environment)
    assert environment.items() <= json.loads(out)["environ"].items()


def test_a_module_sees_what_it_saw():
    """`-m pkg.train`: relative imports, `__spec__` and `__package__`, and words behind it that are its own."""
    write("pkg/__init__.py", "import sys; print(sys.getprofile(), sys.argv)")
    write("pkg/tools.py", "WORD = 'found'")
    write("pkg/train.py", FACTS + "    from .tools import WORD\n    print(WORD)\n")
    words = ("-m", "pkg.train", "--lr", "1", "-m", "--name", "x")
    _, out, err = the_same(*words)
    assert out.endswith("found\n"), err
    assert ("finished", 0) == ending(the_run())


MODULES = {
    "a package": {"pkg/__init__.py": "print('package')", "pkg/__main__.py": FACTS},
    "a package in a package": {"a/__init__.py": "", "a/pkg/__init__.py": "", "a/pkg/__main__.py": FACTS},
    "a lone module": {"pkg.py": FACTS},
    "a namespace": {"pkg/__main__.py": FACTS},
    "imported before": {"a/__init__.py": "from a import pkg", "a/pkg.py": "print(__name__)"},
}


@pytest.mark.parametrize("kind", MODULES)
def test_modules_of_every_kind(kind):
    for name, source in MODULES[kind].items():
        write(name, source)
    name = "a.pkg" if any(one.startswith("a/") for one in MODULES[kind]) else "pkg"
    code, _, err = the_same("-m", name, "--epochs", "3")
    assert 0 == code, err
    assert ("finished", 0) == ending(the_run())


def test_the_word_and_the_module_in_one():
    """`-mpkg`, as python takes it."""
    write("pkg.py", "import sys; print(sys.argv[1:])")
    assert (0, "['x']\n", "") == launched("-mpkg", "x")
    assert ("finished", 0) == ending(the_run())


def test_an_error_in_the_package_of_a_module():
    """The traceback is the one without us, and nothing has begun."""
    write("pkg/__init__.py", "def f():\n    1 / 0\n\nf()")
    write("pkg/train.py", "print('never')")
    assert 1 == the_same("-m", "pkg.train")[0]
    assert [] == all_runs(Path(os.environ["TRACELET_DIR"]))


def test_a_folder_an_archive_and_bytecode():
    """Whatever else the interpreter runs."""
    write("folder/__main__.py", FACTS)
    write("folder/helper.py", "")
    with zipfile.ZipFile("archive.pyz", "w") as archive:
        archive.write("folder/__main__.py", "__main__.py")
    assert 0 == python("-m", "compileall", "-b", "-q", "folder/__main__.py")[0]
    for number, program in enumerate(("folder", "archive.pyz", "folder/__main__.pyc"), start=1):
        code, _, err = the_same(program, "--lr", "1")
        assert 0 == code, err
        assert number == len(all_runs(Path(os.environ["TRACELET_DIR"])))


def test_a_program_on_standard_input():
    """`-`, as python takes it."""
    code, out, _ = the_same("-", "x", stdin="import sys; print(sys.argv)")
    assert (0, "['-', 'x']\n") == (code, out)
    assert ("finished", 0) == ending(the_run())


def test_options_of_the_interpreter():
    """Those before `-m tracelet` are the program's, and so is what stands after `--`."""
    program = write("train.py", FACTS)
    options = ("-X", "dev", "-W", "ignore::UserWarning", "-O", "-u")
    plain = python(*options, program, "--lr")
    assert plain == python(*options, *LAUNCHER, program, "--lr")
    assert plain == launched("--", *options, program, "--lr")


@pytest.mark.parametrize(
    ("words", "given", "expected"),
    [
        (["python", "-m", "tracelet", "run", "x.py"], 3, []),
        (["python", "-um", "tracelet", "run", "x.py"], 3, ["-u"]),
        (["python", "-X", "dev", "-mtracelet", "run", "x.py"], 3, ["-X", "dev"]),
        (["python", "-Bumtracelet", "run", "tracelet"], 3, ["-Bu"]),
        (["python", "-sP", "/bin/tracelet", "run", "x.py"], 3, []),
        (["python", "-c", ENTRY, "run", "x.py"], 3, []),
        (["python", "-m", "debugger", "tracelet", "run"], 2, []),
    ],
)
def test_which_options_are_the_programs(words, given, expected):
    """Those of a console script's first line are not."""
    assert expected == command._interpreter_options(words, given)


def test_the_true_sitecustomize():
    """One that is there is imported as ever, before usercustomize, and is found under its name."""
    write("site/sitecustomize.py", "import sys\nsys.here_first = 'yes'\nFACT = 1")
    program = write("train.py", "import sys, sitecustomize\nprint(sys.here_first, sitecustomize.FACT, sitecustomize)")
    path = os.pathsep.join(["site", os.environ.get("PYTHONPATH", "")])
    _, out, _ = the_same(program, PYTHONPATH=path)
    assert out.startswith("yes 1 <module 'sitecustomize' from")
    assert ("finished", 0) == ending(the_run())


def test_an_error_in_the_true_sitecustomize():
    """It is told as ever, by each of the two interpreters that start, and the program runs."""
    write("site/sitecustomize.py", "1 / 0")
    path = os.pathsep.join(["site", os.environ.get("PYTHONPATH", "")])
    program = write("train.py", "print('runs')")
    code, out, err = python(program, PYTHONPATH=path)
    assert "ZeroDivisionError" in err
    assert (code, out, 2 * err) == launched(program, PYTHONPATH=path)
    assert ("finished", 0) == ending(the_run())


def test_files_beside_the_program_that_have_our_names():
    """Its own `tracelet.py`, or a module named as one of the standard library's, is the program's."""
    write("code/tracelet.py", "raise SystemError('not this one')")
    write("code/colorsys.py", "MINE = True")
    program = write("code/train.py", "import colorsys; print(colorsys.MINE)")
    assert (0, "True\n", "") == the_same(program)
    assert ("finished", 0) == ending(the_run())


# Processes that a program starts.


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_workers(method):
    """Workers import the main module again and unpickle its classes; they have no run, and the program has one."""
    source = f"""
        import multiprocessing, os, sys

        class Job:
            def __init__(self, number):
                self.number = number

        def work(job):
            return type(job).__module__, __name__, job.number, "tracelet.api" in sys.modules and {method!r} != "fork"

        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                print(sorted(pool.map(work, [Job(number) for number in range(4)])))
    """
    code, out, err = the_same(write("train.py", source))
    assert 0 == code, err
    assert "False" in out
    assert "True" not in out
    assert ("finished", 0) == ending(the_run())


def test_a_program_that_it_starts():
    """A process of its own is a plain one: nothing of the launcher is in its environment."""
    source = """
        import json, os, subprocess, sys
        print(json.dumps(dict(os.environ), sort_keys=True), flush=True)
        subprocess.run([sys.executable, "-c", "import sys; print('tracelet' in sys.modules)"], check=True)
    """
    _, out, _ = the_same(write("train.py", source))
    assert out.endswith("False\n")
    assert ("finished", 0) == ending(the_run())


# The run.


def info():
    with JournalReader(the_run()) as reader:
        return reader.info()


def test_what_the_command_line_says():
    """Options are the settings of their names, for the program's run."""
    program = write("train.py", "import tracelet; tracelet.get_active_experiment().log_metric('loss', 0.5, 1)")
    words = ("--backend", "csv", "--project=digits", "--name", "night", "--tags", "a,b", "--notes", "n", "--group", "g")
    assert (0, "", "") == launched(*words, "--dir", "elsewhere", "--no-wait", "--flush-timeout", "20", program)
    (run,) = all_runs(Path("elsewhere"))
    with JournalReader(run) as reader:
        told = reader.info()
    assert ("digits", "night", ("a", "b"), "n", "g") == (
        told.project,
        told.name,
        tuple(told.tags),
        told.notes,
        told.group,
    )
    assert [0.5] == csv_values(run)


def test_an_option_wins_over_a_variable():
    """Also over the other name of the run's name."""
    program = write("train.py", "")
    environment = {"TRACELET_EXPERIMENT_NAME": "variable", "TRACELET_PROJECT": "variable"}
    assert (0, "", "") == launched("--name", "option", program, **environment)
    assert ("option", "variable") == (info().name, info().project)


def test_variables_and_the_settings_file_count():
    write("tracelet.toml", "project = 'file'\nbackend = 'csv'\n")
    assert (0, "", "") == launched(write("train.py", ""), TRACELET_EXP_NAME="variable")
    assert ("variable", "file") == (info().name, info().project)
    assert (the_run() / "csv").is_dir()


def test_the_run_is_there_before_the_first_line():
    """And not before the package around the module is imported."""
    write("pkg/__init__.py", "import sys; print('tracelet.api' in sys.modules)")
    write("pkg/train.py", "import sys; print('tracelet.api' in sys.modules)")
    assert (0, "False\nTrue\n", "") == launched("-m", "pkg.train")


def test_a_run_that_is_gone_on_with():
    program = write("train.py", "import tracelet; tracelet.get_active_experiment().log_metric('loss', 1.0, 1)")
    assert (0, "", "") == launched("--backend", "csv", "--run-id", "night", program)
    assert (0, "", "") == launched("--backend", "csv", "--run-id", "night", "--resume", program)
    assert [1.0, 1.0] == csv_values(the_run())
    code, out, err = launched("--run-id", "other", "--resume", program)
    assert (2, "") == (code, out)
    assert err.startswith("tracelet run: resume=True, but there is no run 'other'")


def test_keys_of_a_backend():
    """`--config`, flat for one backend or under its name."""
    program = write("train.py", "import tracelet; tracelet.get_active_experiment().log_metric('loss', 1.0, 1)")
    assert (0, "", "") == launched("--backend", "csv", "--config", "dir=here", program)
    assert (0, "", "") == launched("--backend", "csv,memory", "--config", "csv.dir=there", program)
    for folder in ("here", "there"):
        (scalars,) = Path(folder).rglob("scalars.csv")
        ((tag, step, value, _),) = csv_store.stored(scalars.parent).scalars
        assert ("loss", 1, 1.0) == (tag, step, value)


def test_the_programs_own_call_takes_over():
    """As wherever a run is active; what the command line said is asked where the call is silent, as a variable is."""
    source = """
        import tracelet
        first = tracelet.get_active_experiment()
        with tracelet.start_logging("own", project="mine") as own:
            own.log_metric("loss", 0.5)
        print(first.run_id != own.run_id, own.stats().backends["csv"].delivered, repr(first).split()[3])
    """
    program = write("train.py", source)
    assert (0, "True 1 (stopped),\n", "") == launched("--backend", "csv", "--project", "cli", program)
    base = Path(os.environ["TRACELET_DIR"])
    assert {"cli", "mine"} == {run.parent.name for run in all_runs(base)}


def test_it_is_quiet_but_for_a_terminal():
    """Where stderr is no terminal, only what goes wrong is said; --verbose says where the run is."""
    program = write("train.py", "")
    assert (0, "", "") == launched(program)
    code, out, err = launched("--verbose", "--name", "x", program)
    assert (0, "") == (code, out)
    first, last = err.splitlines()
    assert first.startswith("tracelet: new run ")
    assert last.startswith("tracelet: run ")


@pytest.mark.parametrize(("option", "lines"), [((), 2), (("--quiet",), 0)])
def test_on_a_terminal(option, lines):
    """A person who sits before it is told where the run is, and what became of it."""
    program = write("train.py", "")
    ours, theirs = os.openpty()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, ours)
        done = subprocess.run(
            [sys.executable, *LAUNCHER, *option, program],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            timeout=DEADLINE,
        )
        os.write(theirs, b"the end\n")
        os.close(theirs)
        told = b""
        while b"the end" not in told:
            told += os.read(ours, 10_000)
    assert 0 == done.returncode
    assert lines == told.count(b"tracelet: "), told


def test_trouble_is_told_all_the_same():
    """What waits is a warning, also where the run is quiet."""
    program = write("train.py", "import tracelet; tracelet.get_active_experiment().log_metric('loss', 1.0, 1)")
    code, out, err = launched("--backend", "csv", "--mode", "offline", program)
    assert (0, "") == (code, out)
    assert "tracelet sync" in err


# What is wrong with the command line.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "the program is missing."),
        (("--backend", "csv"), "the program is missing."),
        (("--backend",), "expected one argument"),
        (("--bakend", "csv", "train.py"), "unknown option --bakend. Did you mean --backend?"),
        (("--proj=x", "train.py"), "unknown option --proj. Did you mean --project?"),
        (("--zzz", "train.py"), "unknown option --zzz. Known: --help, --backend, "),
        (("--mode", "onlin", "train.py"), "onlin"),
        (("--flush-timeout", "long", "train.py"), "long"),
        (("--config", "key", "train.py"), "KEY=VALUE"),
        (("--config", "csv=1", "--config", "csv.dir=x", "train.py"), "--config 'csv.dir=x': 'csv' is used both"),
        (("--config", "csv.dir=x", "--config", "csv=1", "train.py"), "--config 'csv=1': 'csv' is used both"),
        (("--quiet", "--verbose", "train.py"), "not allowed with"),
        (("--api-key", "x", "train.py"), "--api-key"),
        (("--backend", "wandbb", "train.py"), "unknown backend 'wandbb'"),
        (("--backend", "csv", "--config", "folder=x", "train.py"), "'folder'"),
        (
            ("--flush-timeout", "-1", "train.py"),
            "flush_timeout must be 0 or more, got '-1.0' from TRACELET_FLUSH_TIMEOUT",
        ),
        (("--resume", "train.py"), "run_id"),
    ],
)
def test_a_wrong_option_starts_nothing(words, said):
    """Exit code 2, a sentence, and not one line of the program."""
    write("train.py", "print('trained')")
    code, out, err = launched(*words)
    assert (2, "") == (code, out)
    assert said in err
    assert "Traceback" not in err
    assert [] == all_runs(Path(os.environ["TRACELET_DIR"]))


@pytest.mark.parametrize("interpreter", [["python"], ["python3", "-u"], [sys.executable], ["python", "-m"]])
def test_the_interpreters_name_before_the_program_is_ignored(interpreter, monkeypatch):
    """`tracelet run python train.py` is what a hand types that had `python train.py` before."""
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    program = write("train.py", "import sys; print(sys.argv[1:])")
    module = interpreter[-1] == "-m"
    code, out, err = launched("--mode", "offline", *interpreter, "train" if module else program, "--lr", "1")
    assert (0, "['--lr', '1']\n") == (code, out), err
    assert 1 == len(all_runs(Path(os.environ["TRACELET_DIR"])))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("python",), "the program is missing."),
        (("{other}/python3", "train.py"), "Use: {other}/python3 -m tracelet run --backend csv train.py"),
        (("torchrun", "--nproc", "2", "train.py"), "use: torchrun --nproc 2 -m tracelet run --backend csv train.py"),
        (("torchrun", "-m", "pkg.train"), "use: torchrun -m tracelet run --backend csv -m pkg.train"),
        (("tool", "train", "a b"), "To run the command tool, use: tracelet run --backend csv {other}/tool train 'a b'"),
        (("shell", "train.py"), "shell is not a Python program. Name a script, or -m and a module"),
    ],
)
def test_a_command_is_answered_with_what_to_type(words, said, tmp_path, monkeypatch):
    """Of another interpreter, a launcher, a console script; the interpreter would only miss a file of that name."""
    write("train.py", "print('trained')")
    other = tmp_path / "bin"
    other.mkdir()
    for name, first in (("python3", "binary"), ("torchrun", ""), ("tool", "#!/x/python3"), ("shell", "#!/bin/sh")):
        (other / name).write_text(f"{first}\n")
        (other / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{other}:/usr/bin:/bin")
    code, out, err = launched("--backend", "csv", *(word.format(other=other) for word in words))
    assert (2, "") == (code, out)
    assert said.format(other=other) in err


def test_a_variable_that_nobody_knows_starts_nothing():
    code, out, err = launched(write("train.py", "print('trained')"), TRACELET_BAKEND="csv")
    assert (2, "") == (code, out)
    assert "tracelet run: unknown environment variable TRACELET_BAKEND. Did you mean TRACELET_BACKEND?\n" == err


@pytest.mark.parametrize(
    "options", [("-I",), ("-E",), ("-S",), ("-uE",), ("-Ic",), ("-X", "dev", "-I"), ("-Wignore", "-uS")], ids=" ".join
)
def test_options_of_the_program_that_no_run_can_begin_under(options):
    """The program is not started without a run, and with what the launcher left in its environment, in silence."""
    code, out, err = launched("--", *options, write("train.py", "print('trained')"))
    assert (2, "") == (code, out)
    assert "import tracelet.auto" in err


@pytest.mark.parametrize(
    "words",
    [
        ("-X", "I"),
        ("-XI",),
        ("-W", "ignore:I"),
        ("-WE",),
        ("-uW", "error::ImportWarning"),
        ("-uBX", "S", "-O"),
        ("--check-hash-based-pycs", "always"),
        ("-m", "-IES"),
        ("-cI",),
        ("-", "-I"),
        ("--", "-I"),
        ("train.py", "-I"),
        (),
    ],
    ids=" ".join,
)
def test_what_only_looks_like_such_an_option(words):
    """The value of another option, the program, and what stands after its name."""
    assert not command._is_isolated(words)


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_where_no_run_can_begin(option):
    """An interpreter that is told to look at nothing is not started without a run in silence."""
    root = str(Path(command.__file__).parent.parent.parent)
    source = f"import sys; sys.path[:0] = {[root, *sys.path]!r}; sys.argv = ['tracelet', 'run', 'train.py']; "
    source += "sys.orig_argv[1:] = [sys.orig_argv[1], '-m', 'tracelet', *sys.argv[1:]]; "
    source += "from tracelet.__main__ import main; main()"
    code, out, err = python(option, "-c", source)
    assert (2, "") == (code, out)
    assert "import tracelet.auto" in err


# The command.


@pytest.mark.parametrize("entry", [("-m", "tracelet"), ("-c", ENTRY), ("-c", "from tracelet.cli import app; app()")])
def test_every_way_to_the_command(entry):
    """python -m, the console script, and the group of commands itself."""
    program = write("train.py", "import sys; print(sys.argv)")
    words = ("--backend", "csv", program, "--backend", "x", "--", "--help", "-m")
    assert (0, f"{['train.py', *words[3:]]}\n", "") == python(*entry, "run", *words)
    assert (the_run() / "csv").is_dir()


@pytest.mark.parametrize("entry", [("-m", "tracelet"), ("-c", "from tracelet.cli import app; app()")])
def test_help(entry):
    """Every option is told."""
    code, out, err = python(*entry, "run", "--help")
    assert (0, "") == (code, err)
    assert [] == [option for option, *_ in command.SETTINGS if option not in out]
    assert "tracelet run [options]" in out


def test_it_is_listed(call):
    told = call("--help")
    assert 0 == told.exit_code
    assert "without changing the program" in " ".join(told.output.split())


def test_every_setting_has_an_option():
    """But for credentials, which a command line would show to everybody, and the queue's own bounds. The run's id
    is an argument of this process's run alone: a child process must not get it in a variable."""
    options = {setting for _, setting, *_ in command.SETTINGS} | {"wait", "run_id"}
    assert set(settings.Settings.__struct_fields__) - {*settings.CREDENTIALS, "queue_bytes", "queue_timeout"} == options
    choices = {setting: takes for _, setting, takes, _ in command.SETTINGS if isinstance(takes, tuple)}
    assert settings._CHOICES == choices


def test_the_program_does_not_wait_for_the_other_commands():
    """The launcher imports the standard library alone; ours is imported once, in the program's interpreter."""
    code, _, err = python("-X", "importtime", *LAUNCHER, "--mode", "onlin", "train.py")
    assert 2 == code
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")}
    assert {"tracelet.launcher.command"} <= imported
    assert set() == imported & {
        "typer",
        "rich",
        "msgspec",
        "sqlite3",
        "tracelet.api",
        "tracelet.cli",
        "importlib.metadata",
    }


PLAIN = [
    "",
    "--backend csv",
    "--backend=wandb,mlflow --project digits --name=a=b --tags x,y",
    "--mode offline --events=off --flush-timeout 3 --system-interval=0.5",
    "--config level=1 --config csv.dir=x --run-id r1 --resume",
    "--no-resume --no-wait -v",
    "--quiet --dir= --notes two",
]
LEFT = [
    "--flush-timeout soon",
    "--mode sideways",
    "--bakend csv",
    "-vq",
    "-v -q",
    "--backend",
    "--backend -x",
    "--help",
]


@pytest.mark.parametrize("words", PLAIN)
def test_options_are_read_as_argparse_reads_them(words):
    """Without it, since it is most of what the command costs."""
    own = words.split(" ") if words else []
    assert vars(command._parser().parse_args(own)) == command._parse_simple(own)


@pytest.mark.parametrize("words", LEFT)
def test_what_is_not_plain_is_left_to_argparse(words):
    """Mistakes, and what asks for help: its words, and its exit code."""
    assert command._parse_simple(words.split(" ")) is None
