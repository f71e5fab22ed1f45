import json
import subprocess
from datetime import UTC, datetime, timedelta

from lightning_adv.reports.run import code_in, run_info

STARTED = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def info(**changes):
    return run_info(0, "runs/one", STARTED, **changes)


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_folder_outside_any_repository_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    collected = info(code=code_in(tmp_path))
    assert (collected.commit, collected.dirty) == (None, None)


def test_a_machine_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert info().commit is None


def test_a_changed_file_makes_the_commit_dirty(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    git(tmp_path, "init")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-m", "one")
    clean = info(code=code_in(tmp_path))
    file.write_text("two")
    changed = info(code=code_in(tmp_path))
    assert (len(clean.commit), clean.dirty, changed.dirty) == (40, False, True)


def test_the_duration_is_known_once_the_run_has_finished():
    assert info().seconds is None
    assert info(finished=STARTED + timedelta(minutes=4)).seconds == 240


def test_provenance_is_plain_data_that_names_versions_and_machine():
    collected = info(command=["train.py", "fit", "--seed", "a b"])
    plain = json.loads(json.dumps(collected.as_dict()))
    assert plain["command"] == "train.py fit --seed 'a b'"
    assert {"python", "torch", "lightning", "lightning_adv"} <= plain["versions"].keys()
    assert plain["machine"]["cores"] >= 1
