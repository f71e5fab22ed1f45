"""A kill, a full disk or two writers at once leave the old content of a file or the new."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from lightning_adv.errors import InputError
from lightning_adv.files import append_line, read_lines, replace_atomically, replace_folder
from tests.source_tree import ROOT


@pytest.fixture
def small_files() -> Iterator[int]:
    """While it lasts, no file of this process may grow over so many bytes: the nearest to a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def killed(code: str, *arguments: object) -> None:
    """Run code that kills its own process."""
    command = [sys.executable, "-c", f"import os, signal, sys\nfrom lightning_adv.files import *\n{code}"]
    done = subprocess.run([*command, *map(str, arguments)], cwd=ROOT, check=False, stderr=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_file_is_made_with_its_folder_and_replaced(tmp_path):
    file = tmp_path / "a" / "b" / "file"
    for content, then in (("1", b"1"), (b"22", b"22"), (lambda stream: stream.write(b"333"), b"333")):
        replace_atomically(file, content)
        assert file.read_bytes() == then
    assert os.listdir(file.parent) == ["file"]


@pytest.mark.slow
def test_a_kill_in_the_midst_of_writing_leaves_the_old_content_and_the_next_writer_cleans_up(tmp_path):
    file = tmp_path / "file"
    replace_atomically(file, "old")
    half = """
def write(stream):
    stream.write(b"ne")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
replace_atomically(sys.argv[1], write)
"""
    killed(half, file)
    assert file.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2, "half of the new content is there, under its hidden name"
    replace_atomically(file, "new")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.slow
def test_another_process_that_is_writing_the_same_file_is_left_alone(tmp_path):
    file = tmp_path / "file"

    def slow(stream):
        stream.write(b"slow")
        code = "import sys; from lightning_adv.files import *; replace_atomically(sys.argv[1], 'quick')"
        subprocess.run([sys.executable, "-c", code, str(file)], cwd=ROOT, check=True)
        assert file.read_text() == "quick"

    replace_atomically(file, slow)
    assert file.read_text() == "slow"


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 5000,
        lambda file: torch.save({"weight": torch.zeros(5000)}, file),
    ],
    ids=["bytes", "torch, which raises its own error over the system's"],
)
def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path, small_files, content):
    file = tmp_path / "file"
    replace_atomically(file, "old")
    with pytest.raises(InputError, match=rf"^cannot write {file}: File too large; [^\n]+$"):
        replace_atomically(file, content)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    replace_atomically(tmp_path / "file", "")
    for write in (replace_atomically, append_line):
        with pytest.raises(InputError, match=r"^cannot write \S+/below: (Not a directory|File exists); a file is"):
            write(tmp_path / "file" / "below", "")


def test_an_error_of_the_writer_is_its_own_and_leaves_the_old_file(tmp_path):
    file = tmp_path / "file"
    replace_atomically(file, "old")

    def fails(stream):
        stream.write(b"half")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        replace_atomically(file, fails)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "best").write_text("best")
    (tmp_path / "last").symlink_to(tmp_path / "best")
    replace_atomically(tmp_path / "last", "last")
    assert ((tmp_path / "best").read_text(), (tmp_path / "last").read_text()) == ("best", "last")


def test_a_line_after_one_that_a_kill_cut_off_is_a_line_of_its_own(tmp_path):
    file = tmp_path / "a" / "log"
    append_line(file, json.dumps({"whole": 1}))
    with file.open("ab") as stream:
        stream.write('{"cut": "é'.encode()[:-1])
    append_line(file, "{}")
    append_line(file, "")
    assert read_lines(file) == ['{"whole": 1}', '{"cut": "\N{REPLACEMENT CHARACTER}', "{}"]


def test_what_a_full_disk_cut_off_is_told_and_the_lines_before_stay(tmp_path, small_files):
    append_line(tmp_path / "log", "first")
    with pytest.raises(InputError, match=r"^cannot write \S+log: File too large"):
        append_line(tmp_path / "log", "x" * 2 * small_files)
    assert read_lines(tmp_path / "log")[0] == "first"


def test_no_file_has_no_lines_and_a_folder_is_refused(tmp_path):
    assert read_lines(tmp_path / "none") == []
    with pytest.raises(InputError, match="cannot read"):
        read_lines(tmp_path)


@pytest.mark.slow
def test_a_kill_while_a_folder_is_written_leaves_every_file_whole(tmp_path):
    def both(text: str):
        return lambda new: [(new / name).write_text(text) for name in ("config", "weights")]

    (tmp_path / "mine").write_text("kept")
    replace_folder(tmp_path, both("old"))
    half = """
def write(new):
    (new / "config").write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
replace_folder(sys.argv[1], write)
"""
    killed(half, tmp_path)
    assert [(tmp_path / name).read_text() for name in ("config", "weights")] == ["old", "old"]
    replace_folder(tmp_path, both("new"))
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "config": "new",
        "weights": "new",
        "mine": "kept",
    }
