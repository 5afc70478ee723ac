"""What holds for every vendor's package: missing, too old or broken it is said, and costs the others nothing."""

import re
import sys

import pytest
from backends.faults import Faulty, Gate, raises, values
from programs import csv_values, journal_values, run_program, the_run
from support import REPOSITORY

import tracelet
from tracelet.backends import _BUILTIN, backend_class, configured, journal_config, persistent_keys, secrets_of
from tracelet.errors import BackendUnavailable, MissingDependency
from tracelet.redaction import Secrets

VENDORS = [name for name, entry in _BUILTIN.items() if entry.package]
PYPROJECT = REPOSITORY / "pyproject.toml"


@pytest.fixture
def gate():
    """A backend's hook hangs until the test is over."""
    gate = Gate()
    yield gate
    gate.open()


def package(folder, name, *, code="", version=None):
    """A package of that name, found before the real one; with a version, as if it had been installed."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    if version is not None:
        told = folder / f"{name}-{version}.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return str(folder)


@pytest.mark.parametrize("name", VENDORS)
def test_a_package_that_is_missing(name, monkeypatch):
    """Said on the line of `start_logging`, with the pip line that installs it."""
    monkeypatch.setitem(sys.modules, _BUILTIN[name].package, None)

    with pytest.raises(MissingDependency, match=re.escape(f"pip install 'tracelet[{name}]'")):
        tracelet.start_logging(backend=name)
    assert tracelet.get_active_experiment() is None


@pytest.mark.parametrize("name", VENDORS)
def test_a_package_that_is_too_old(name, tmp_path, monkeypatch):
    """Said on the line of `start_logging`: what is there, what is needed, and how to get it."""
    entry = _BUILTIN[name]
    monkeypatch.syspath_prepend(package(tmp_path / "old", entry.package, version="0.0.1"))
    monkeypatch.delitem(sys.modules, entry.package, raising=False)  # what is imported already is what counts

    with pytest.raises(MissingDependency) as error:
        tracelet.start_logging(backend=name)
    assert f"needs {entry.package} {entry.oldest} or later, and 0.0.1 is installed" in str(error.value)
    assert f"pip install --upgrade 'tracelet[{name}]'" in str(error.value)


@pytest.mark.parametrize("name", VENDORS)
def test_the_oldest_release_is_that_of_the_extra(name):
    """The registry and pyproject.toml say the same."""
    entry = _BUILTIN[name]
    pattern = rf'^{name} = \["{entry.package}>={re.escape(entry.oldest)}["; ,]'
    assert re.search(pattern, PYPROJECT.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", VENDORS)
def test_a_package_that_cannot_be_imported(name, tmp_path):
    """A broken installation is an outage of that backend: the program goes on, the others get everything."""
    broken = package(tmp_path / "broken", _BUILTIN[name].package, code="raise OSError('libvendor.so is missing')")
    program = run_program(
        """
        import sys
        import tracelet
        exp = tracelet.start_logging(backend=["csv", sys.argv[1]], flush_timeout=5)
        for step in range(100):
            exp.log_metric("loss", step / 7, step)
        """,
        name,
        PYTHONPATH=broken,
    )

    expected = [step / 7 for step in range(100)]
    assert (0, expected, expected) == (program.returncode, csv_values(the_run()), journal_values(the_run()))
    assert 1 == program.err.count("Records are stored in"), program.err
    assert "libvendor.so is missing" in program.err
    assert program.seconds < 5 + 2 + 8  # flush_timeout, 2 s, and the start of an interpreter on a busy machine


def test_bad_neighbours_cost_a_vendor_nothing(gate, memory):
    """Beside one backend that hangs and one that never connects, every vendor's store gets everything in time."""
    failing = Faulty(open=raises(BackendUnavailable("down")))
    failing.name = "failing"
    hanging = Faulty(write=gate)
    exp = tracelet.start_logging(backend=[hanging, failing, memory, *(backend_class(name)() for name in VENDORS)])
    for step in range(300):
        exp.log_metric("loss", step / 7, step)
    assert gate.reached.wait(30)

    exp.stop(timeout=25)

    stats = exp.stats().backends
    assert dict.fromkeys(VENDORS, 300) == {name: stats[name].delivered for name in VENDORS}
    assert 0 == stats["faulty"].delivered
    assert [step / 7 for step in range(300)] == values(memory.records)


# What the journal keeps of a config.

KEPT = {
    "aim": ({"repo": "store"}, "repo"),
    "csv": ({"dir": "store"}, "dir"),
    "mlflow": ({"tracking_uri": "sqlite:///store.db"}, "tracking_uri"),
    "tensorboard": ({"dir": "store"}, "dir"),
    "trackio": ({"dir": "store"}, "dir"),
    "wandb": ({"dir": "store"}, "dir"),
}
CREDENTIALS = {"alert_webhook", "api_key", "access_key", "secret_key", "password", "headers", "settings", "token"}


@pytest.mark.parametrize("name", sorted(_BUILTIN))
def test_no_credential_is_kept_of_a_config(name):
    """What a later delivery needs to know is in the journal, but for what signs in."""
    cls = backend_class(name)
    kept = set(persistent_keys(cls))
    assert kept <= set(cls.Config.__struct_fields__)
    assert set() == CREDENTIALS & kept
    assert set(cls.Config.__struct_fields__) - kept <= CREDENTIALS


@pytest.mark.parametrize("name", KEPT)
def test_a_place_is_kept_whole(name, tmp_path):
    """`tracelet sync` may be called from anywhere: a path that was meant from here still is one from there."""
    config, key = KEPT[name]
    backend = configured(backend_class(name), config)
    assert str(tmp_path / "store") in journal_config(backend, Secrets())[key]


def test_a_place_with_a_password_is_not_kept():
    """Then the next delivery is told it again."""
    secrets = Secrets()
    backend = configured(backend_class("mlflow"), {"tracking_uri": "http://me:very-secret-word@host:1"})
    secrets.add(secrets_of(backend))
    assert "tracking_uri" not in journal_config(backend, secrets)


@pytest.mark.parametrize("address", ["http://me:short@h:5000", "me:short@h:5000", "http://h:5000/?api_key=short"])
def test_an_address_with_a_credential_is_not_kept(address):
    """Also one too short to be hidden wherever it stands, and one without a scheme."""
    backend = configured(backend_class("mlflow"), {"tracking_uri": address})
    assert "short" not in str(journal_config(backend, Secrets()))
