"""Artifacts of the facade: the rules of real wandb's class before logging, and versions in local journals after it."""

import inspect
import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import wandb
from backends.faults import journalled

import tracelet
from tracelet.compat.wandb import artifacts
from tracelet.compat.wandb.artifacts import Artifact
from tracelet.compat.wandb.errors import ArtifactFinalizedError, ArtifactNotLoggedError, CommError, UnsupportedError
from tracelet.journal.spool import Spool
from tracelet.journal.store import Journal
from tracelet.records import Artifact as Record
from tracelet.records import File, RunInfo


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a file and a folder of files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "data" / "deep" / "b.txt").write_text("b")
    (tmp_path / "model.pt").write_text("weights")
    return tmp_path


@pytest.fixture
def base(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def experiment():
    with tracelet.start_logging(project="p", backend=[]) as started:
        yield started


def logged(experiment, text, name="m", type="model", aliases=None, **kwargs):
    """Log an artifact with one file of this text."""
    artifact = Artifact(name, type, **kwargs)
    with artifact.new_file("content.txt") as file:
        file.write(text)
    artifacts.log(artifact, experiment, aliases)
    return artifact


def outcome(function):
    """Return the result of a function, or the built-in type of its error."""
    try:
        return function()
    except (ValueError, TypeError, OSError) as error:
        return next(cls for cls in type(error).__mro__ if cls.__module__ == "builtins")


def entries(artifact):
    return {path: (entry.digest, entry.size) for path, entry in artifact.manifest.entries.items()}


# A draft, compared with real wandb.


@pytest.mark.parametrize("name", ["ok", "a.b-c_D", "a/b", "a b", "a:b", "", "x" * 128, "x" * 129, "ünï", "a#b"])
def test_names_are_those_of_wandb(name):
    expected = outcome(lambda: wandb.Artifact(name, "dataset").name)
    assert expected == outcome(lambda: Artifact(name, "dataset").name)


@pytest.mark.parametrize("type", ["model", "", "a b", "file", "job", "wandb-history", "run-x"])
def test_types_are_those_of_wandb(type):
    expected = outcome(lambda: wandb.Artifact("x", type).type)
    assert expected == outcome(lambda: Artifact("x", type).type)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"a": 1}, {"a": {"b": (1, 2)}}, [1], 5, {"a": object()}, '{"a": 1}', "no JSON"]
)
def test_metadata_is_that_of_wandb(metadata):
    expected = outcome(lambda: wandb.Artifact("x", "dataset", metadata=metadata).metadata)
    assert expected == outcome(lambda: Artifact("x", "dataset", metadata=metadata).metadata)


def fill(artifact):
    """Use every method that adds or removes files."""
    artifact.add_file("model.pt")
    artifact.add_file("model.pt", name="sub/./other.pt")
    artifact.add_dir("data")
    artifact.add_dir("data", "named")
    with artifact.new_file("notes/new.txt") as file:
        file.write("new")
    with artifact.new_file("bytes.bin", "wb") as file:
        file.write(b"\0\1")
    artifact.remove("named/deep")
    artifact.add_file("data/a.txt", name="model.pt", overwrite=True)
    artifact.add_reference("s3://bucket/path/key.bin", checksum=False)
    artifact.add_reference("https://host/path/web.bin", checksum=False)
    artifact.add_reference("custom://host/x", name="by/name")
    artifact.add_reference(Path("model.pt").absolute().as_uri(), name="local.pt")
    return artifact


def test_entries_and_digest_are_those_of_wandb():
    """The same calls have the same paths, digests and sizes, and the digest of the whole is the same."""
    expected, actual = fill(wandb.Artifact("x", "dataset")), fill(Artifact("x", "dataset"))
    assert entries(expected) == entries(actual)
    assert expected.digest == actual.digest
    assert wandb.Artifact("y", "dataset").digest == Artifact("y", "dataset").digest


def write_new(artifact):
    with artifact.new_file("new.txt") as file:
        file.write("new")


@pytest.mark.parametrize(
    "call",
    [
        lambda artifact: artifact.add_file("missing"),
        lambda artifact: artifact.add_file("data"),
        lambda artifact: artifact.add_file("model.pt", name="../x"),
        lambda artifact: artifact.add_file("model.pt", name="/x"),
        lambda artifact: artifact.add_file("model.pt", policy="other"),
        lambda artifact: artifact.add_file("data/a.txt", name="known"),
        lambda artifact: artifact.add_dir("missing"),
        lambda artifact: [write_new(artifact), write_new(artifact)],
        lambda artifact: artifact.remove("missing"),
        lambda artifact: artifact.add(5, "five"),
        lambda artifact: artifact.add_reference("no-uri"),
        lambda artifact: artifact.add_reference("custom://a/b"),
        lambda artifact: setattr(artifact, "metadata", [1]),
    ],
)
def test_invalid_calls_raise_as_in_wandb(call):
    artifact, expected = Artifact("x", "dataset"), wandb.Artifact("x", "dataset")
    for each in (artifact, expected):
        each.add_file("model.pt", name="known")
    error = outcome(lambda: call(expected))
    assert error in (ValueError, TypeError, FileNotFoundError)
    assert error == outcome(lambda: call(artifact))


_LOGGED_ONLY = (
    *("version", "created_at", "entity", "project", "qualified_name", "file_count", "ttl", "aliases", "tags", "url"),
    *("wait", "files", "file", "download", "checkout", "verify", "new_draft", "logged_by", "used_by"),
)


@pytest.mark.parametrize("member", _LOGGED_ONLY)
def test_members_that_need_a_logged_artifact(member):
    """The same members raise before logging as in wandb."""

    def use(artifact):
        found = getattr(artifact, member)
        return found() if callable(found) else found

    with pytest.raises(AttributeError, match="prior to logging"):
        use(wandb.Artifact("x", "dataset"))
    with pytest.raises(ArtifactNotLoggedError, match="log_artifact"):
        use(Artifact("x", "dataset"))


def test_a_file_is_copied_when_it_is_added(experiment):
    """A later change of the file changes nothing. With the policy `immutable`, the program does not change it."""
    artifact = Artifact("m", "model")
    artifact.add_file("model.pt")
    immutable = artifact.add_file("data/a.txt", policy="immutable")
    assert immutable.local_path == str(Path("data/a.txt").absolute())
    Path("model.pt").write_text("changed")
    artifacts.log(artifact, experiment)
    Path("data/a.txt").unlink()
    found = Path(artifacts.use(artifact.qualified_name, None, experiment.folder.parents[1], None).download())
    assert ("weights", "a") == ((found / "model.pt").read_text(), (found / "a.txt").read_text())


def test_another_digest_is_refused():
    with pytest.raises(UnsupportedError, match="MD5"):
        Artifact("x", "dataset", digest_algorithm="XXH128")


# After logging.


def test_the_record_of_an_artifact(experiment):
    """The metadata of an artifact without aliases and description is the program's."""
    logged(experiment, "one", metadata={"k": [1, 2]})
    logged(experiment, "two", aliases=["best"], description="second", metadata={"k": 1})
    experiment.stop()
    first, second = (record for record in journalled(experiment.folder) if isinstance(record, Record))
    assert ("m", "model", {"k": [1, 2]}) == (first.name, first.type, first.metadata)
    assert {"k": 1, "aliases": ["best"], "description": "second"} == second.metadata
    assert [("content.txt", 3)] == [(file.name, file.size) for file in first.files]


def test_a_backend_gets_the_files(tmp_path):
    """Delivery is that of any other artifact."""
    with tracelet.start_logging(backend="csv") as experiment:
        logged(experiment, "one")
    found = [path for path in (experiment.folder / "csv").rglob("*") if path.name == "content.txt"]
    assert ["one"] == [path.read_text() for path in found]


def test_versions_count_the_contents(experiment, base):
    """A new content is a new version; the same content is the same one, and aliases move."""
    first, second = logged(experiment, "one", aliases=["best"]), logged(experiment, "two", aliases=["best", "new"])
    assert ["m:v0", "m:v1"] == [first.name, second.name]
    assert ("v1", "COMMITTED", False) == (second.version, second.state, second.is_draft())
    assert ["best", "new", "latest"] == second.aliases
    again = logged(experiment, "one", aliases=["old"])
    assert "m:v0" == again.name
    aliases = {version: artifacts.use(f"m:{version}", None, base, "p").aliases for version in ("v0", "v1")}
    assert {"v0": ["old", "latest"], "v1": ["best", "new"]} == aliases


def test_versions_go_on_in_the_next_run_of_the_project(base):
    """Runs of one project share their names; another project counts on its own."""
    names = []
    for number, project in enumerate(["p", "p", "q"]):
        with tracelet.start_logging(project=project, backend=[]) as experiment:
            names.append(logged(experiment, str(number)).qualified_name)
    assert ["local/p/m:v0", "local/p/m:v1", "local/q/m:v0"] == names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m", "two"),
        ("m:latest", "two"),
        ("m:v0", "one"),
        ("m:best", "one"),
        ("p/m:v1", "two"),
        ("team/p/m:v1", "two"),
        ("q/m:latest", "other"),
    ],
)
def test_an_artifact_is_found_by_its_name(name, expected, base):
    with tracelet.start_logging(project="p", backend=[]) as experiment:
        logged(experiment, "one", aliases=["best"])
        logged(experiment, "two")
    with tracelet.start_logging(project="q", backend=[]) as experiment:
        logged(experiment, "other")
    found = artifacts.use(name, "model", base, "p")
    assert expected == Path(found.file("out")).read_text()


def test_an_artifact_that_does_not_exist(experiment, base):
    """The error lists the existing ones."""
    logged(experiment, "one", aliases=["best"])
    with pytest.raises(CommError, match=r"p/m:v0"):
        artifacts.use("other:latest", None, base, "p")
    with pytest.raises(CommError, match=r"v0, best, latest"):
        artifacts.use("m:v7", None, base, "p")
    with pytest.raises(ValueError, match="of type 'model', not 'dataset'"):
        artifacts.use("m:v0", "dataset", base, "p")


def test_files_of_log_artifact_are_found(experiment, base):
    """What `experiment.log_artifact` logs has a name as well: that of the file or the folder."""
    experiment.log_artifact("model.pt")
    experiment.log_artifact("model.pt", "models/")
    experiment.log_artifact("data")
    Path("model.pt").write_text("changed")
    experiment.log_artifact("model.pt")
    assert "weights" == Path(artifacts.use("model.pt:v0", None, base, "p").file("out")).read_text()
    assert "changed" == Path(artifacts.use("model.pt:latest", None, base, "p").file("new")).read_text()
    assert "models/model.pt:v0" == artifacts.use("models/model.pt", None, base, "p").name
    assert {"a.txt", "deep/b.txt"} == set(artifacts.use("data", None, base, "p").manifest.entries)


@pytest.mark.parametrize("metadata", [{}, {"k": 1}, {"aliases": 5}, {"tags": ["mine"]}, {"metadata": {"a": 1}}])
@pytest.mark.parametrize("aliases", [None, ["best"]])
def test_metadata_comes_back(metadata, aliases, experiment, base):
    """Also under the keys by which the record holds the aliases."""
    logged(experiment, "one", aliases=aliases, description="a model", metadata=metadata)
    found = artifacts.use("m:v0", None, base, "p")
    assert (metadata, "a model") == (found.metadata, found.description)
    assert [*(aliases or []), "latest"] == found.aliases


def test_references_are_logged(experiment, base, caplog):
    """They are in the journal. `download` copies local ones, and names those that it leaves out."""
    artifact = Artifact("refs", "dataset")
    artifact.add_reference("s3://bucket/key.bin")
    artifact.add_reference(Path("data").absolute().as_uri())
    artifact.add_file("model.pt")
    artifacts.log(artifact, experiment)
    found = artifacts.use("refs", None, base, "p")
    assert {"key.bin", "a.txt", "deep/b.txt", "model.pt"} == set(found.manifest.entries)
    assert "s3://bucket/key.bin" == found.get_entry("key.bin").ref_target()
    assert found.digest == artifact.digest
    folder = Path(found.download())
    assert {"a.txt", "b.txt", "model.pt"} == {path.name for path in folder.rglob("*") if path.is_file()}
    assert "s3://bucket/key.bin" in caplog.text
    with pytest.raises(UnsupportedError, match="own client"):
        found.get_entry("key.bin").download()


def test_download_verify_and_checkout(experiment, folder):
    """`verify` finds changed and additional files; `checkout` removes the latter."""
    artifact = Artifact("d", "dataset")
    artifact.add_dir("data")
    artifacts.log(artifact, experiment)
    root = Path(artifact.download())
    assert folder / "artifacts" / "d:v0" == root
    artifact.verify()
    (root / "a.txt").write_text("changed")
    with pytest.raises(ValueError, match=r"a\.txt"):
        artifact.verify()
    (root / "more.txt").write_text("more")
    with pytest.raises(ValueError, match=r"more\.txt"):
        artifact.verify()
    artifact.checkout()
    artifact.verify()
    assert ["deep/b.txt"] == [file.name for file in artifact.files(["deep/b.txt"])]
    only = Path(artifact.download("only", path_prefix="deep"))
    assert [only / "deep" / "b.txt"] == list(only.rglob("*.txt"))
    with pytest.raises(KeyError, match="missing"):
        artifact.get_entry("missing")


def test_a_logged_artifact_is_final(experiment):
    """A new draft of it is the next version, with the files of the old one."""
    artifact = logged(experiment, "one", metadata={"k": 1})
    with pytest.raises(ArtifactFinalizedError, match="new_draft"):
        artifact.add_file("model.pt")
    draft = artifact.new_draft()
    draft.add_file("model.pt")
    artifacts.log(draft, experiment)
    assert ("m:v1", {"k": 1}) == (draft.name, draft.metadata)
    assert {"content.txt", "model.pt"} == set(draft.manifest.entries)


def test_saved_changes_are_in_the_journal(base):
    """Aliases, tags and metadata of an artifact can change while its run is active."""
    with tracelet.start_logging(project="p", backend=[]) as experiment:
        artifact = logged(experiment, "one")
        artifact.aliases.append("prod")
        artifact.tags = ["checked"]
        artifact.metadata["accuracy"] = 0.5
        artifact.save()
        found = artifacts.use("m:prod", None, base, "p")
        assert ("v0", {"accuracy": 0.5}, ["checked"]) == (found.version, found.metadata, found.tags)
        artifact.aliases.remove("prod")
        with pytest.raises(UnsupportedError, match="prod"):
            artifact.save()
    artifact.aliases.append("prod")
    with pytest.raises(UnsupportedError, match="has ended"):
        artifact.save()
    with pytest.raises(UnsupportedError, match="new_draft"):
        found.save()


def test_the_runs_that_logged_and_used_it(base):
    with tracelet.start_logging(project="p", run_id="first", backend=[]) as experiment:
        logged(experiment, "one")
    with tracelet.start_logging(project="p", run_id="second", backend=[]) as experiment:
        artifact = artifacts.use("m:latest", "model", base, "p", experiment)
    assert "first" == artifact.logged_by().id
    assert ["m:v0"] == [version.name for version in artifact.collection.artifacts()]
    (user,) = artifact.used_by()
    assert "second" == user.id
    assert [artifact.qualified_name] == [used.qualified_name for used in user.used_artifacts()]


def test_another_process_reads_it_at_once(experiment, base):
    """The journal of an active run is read as far as it is committed, without the real wandb."""
    artifact = logged(experiment, "one", aliases=["best"]).wait()
    program = (
        "import sys; from pathlib import Path; from tracelet.compat.wandb.api import Api\n"
        "artifact = Api().artifact('p/m:best'); state = artifact.logged_by().state\n"
        "print(Path(artifact.file()).read_text(), state, 'wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ("one running False\n", "") == (done.stdout, done.stderr)
    assert "v0" == artifact.version


def test_artifacts_of_all_ranks(base):
    """A rank of a shared run has a journal of its own, and the run is the common one."""
    with tracelet.start_logging(project="p", run_id="r1", backend=[]) as experiment:
        logged(experiment, "one")
    rank = experiment.folder / "ranks" / "rank-1"
    info = RunInfo(run_id="r1", project="p", name=None, folder=str(rank), label="rank-1", prefix="rank-1/")
    file = msgspec.structs.replace(Spool(rank / "files").put(b"two", ""), name="content.txt")
    journal = Journal(rank)
    journal.put_info(info)
    journal.append([Record("m", (file,), time.time() + 1, "model")])
    journal.close()
    found = artifacts.use("m:latest", "model", base, "p")
    assert ("v1", "two") == (found.version, Path(found.file()).read_text())
    assert experiment.folder.as_uri() == found.logged_by().url


def test_an_ended_run_gets_no_artifacts(base):
    """It is not stored, and `wait` raises instead of waiting."""
    with tracelet.start_logging(project="p", backend=[]) as experiment:
        pass
    artifact = logged(experiment, "late")
    assert "PENDING" == artifact.state
    with pytest.raises(CommError, match="not in the journal"):
        artifact.wait()


def test_a_disabled_run_has_no_versions():
    """Logging to it does nothing, as in a process without a run."""
    with tracelet.start_logging(mode="disabled") as experiment:
        artifact = logged(experiment, "one")
    assert ("m", "PENDING") == (artifact.name, artifact.state)


@pytest.mark.parametrize("aliases", [["a:b"], ["a/b"]])
def test_illegal_aliases(aliases, experiment):
    with pytest.raises(ValueError, match="alias"):
        logged(experiment, "one", aliases=aliases)


def test_an_object_is_added_by_its_files(experiment):
    """A data type decides its files; a table comes back."""

    class Table:
        def files(self, stem):
            return {f"{stem}.table.json": json.dumps({"columns": ["a"], "data": [[1]]}).encode()}

    artifact = Artifact("t", "dataset")
    assert "preview.table.json" == artifact.add(Table(), "preview").path
    artifacts.log(artifact, experiment)
    restored = artifact.get("preview")
    assert (["a"], [[1]]) == (
        (restored["columns"], restored["data"]) if isinstance(restored, dict) else (restored.columns, restored.data)
    )
    assert artifact.get("missing") is None


def test_a_path_becomes_an_artifact():
    """The argument of `run.log_artifact`: a file, a folder, an address, or an artifact."""
    assert ["model.pt"] == list(artifacts.prepared("model.pt", None, None, default="run-1-").manifest.entries)
    assert "run-1-model.pt" == artifacts.prepared("model.pt", None, None, default="run-1-").name
    assert {"a.txt", "deep/b.txt"} == set(artifacts.prepared(Path("data"), "d", "dataset").manifest.entries)
    assert "s3://bucket/key" == artifacts.prepared("s3://bucket/key", None, "data").manifest.entries["key"].ref
    with pytest.raises(ValueError, match="missing"):
        artifacts.prepared("missing", None, None)


def test_code_is_an_artifact():
    Path("data/train.py").write_text("pass")
    Path("data/deep/model.py").write_text("pass")
    assert {"train.py", "deep/model.py"} == set(artifacts.of_code("data").manifest.entries)
    chosen = artifacts.of_code("data", include_fn=lambda path: True, exclude_fn=lambda path, root: "deep" in path)
    assert {"a.txt", "train.py"} == set(chosen.manifest.entries)
    assert artifacts.of_code("data", include_fn=lambda path: False) is None


def test_a_journal_cannot_write_elsewhere(base, folder):
    """A run folder may come from another machine: its names stay below the root, and its digests in its spool."""
    run = base / "p" / "strange"
    journal = Journal(run)
    journal.put_info(RunInfo(run_id="strange", project="p", name=None, folder=str(run)))
    digest = "0" * 64
    (run / "files" / "00").mkdir(parents=True)
    (run / "files" / "00" / digest).write_text("x")
    journal.append([Record("up", (File("../../evil", digest, 1),), 1.0, "model")])
    journal.append([Record("out", (File("x", "../../../model.pt", 1),), 2.0, "model")])
    journal.close()
    with pytest.raises(ValueError, match="relative"):
        artifacts.use("up", None, base, "p").download("root")
    with pytest.raises(ValueError, match="outside"):
        artifacts.use("out", None, base, "p")
    assert not (folder / "evil").exists()


def test_the_arguments_of_an_artifact_can_be_read():
    """Editors show them, and programs that pass on their own arguments compare them."""
    assert list(inspect.signature(wandb.Artifact).parameters) == list(inspect.signature(Artifact).parameters)
