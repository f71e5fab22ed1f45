"""One trained model for all tests of the command line, and a folder of its own for every test."""

from pathlib import Path

import pytest

from tests.cli.commands import DEMO, TINY, run


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of the demo that ended well."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    outcome = run(["fit", "--config", DEMO, "--run", folder, *TINY])
    assert outcome.status == 0, outcome.err
    return folder
