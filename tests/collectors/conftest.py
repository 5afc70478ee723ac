"""Here runs collect, as they do for everybody."""

import pytest
from repositories import Repository


@pytest.fixture(autouse=True)
def _collecting(_isolated, monkeypatch, tmp_path):
    monkeypatch.delenv("TRACELET_COLLECT")
    # Whatever lies around the place where tests write is not a repository of theirs.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", f"{tmp_path}:{tmp_path.parent}")


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit of `train.py`, on the branch main."""
    made = Repository(tmp_path / "repository")
    made.write("train.py", "print(1)\n")
    made.commit()
    return made
