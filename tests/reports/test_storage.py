import json
import math
import os
import subprocess
import sys

import pytest

from lightning_adv.errors import InputError
from lightning_adv.reports.storage import as_json, read_results, results_document, section_document, write_atomically


@pytest.fixture
def document(robustness, provenance):
    section = section_document(robustness(), ["1-1_a.png"])
    return results_document("A run", provenance, [section], {"val/loss": [(1, math.nan), (2, 0.5)]}, {})


def test_results_come_back_as_they_were_written(tmp_path, document):
    write_atomically(tmp_path / "results.json", as_json(document))
    assert read_results(tmp_path) == read_results(tmp_path / "results.json")
    back = read_results(tmp_path)
    assert back["schema"] == 1
    assert back["history"] == {"val/loss": [[1, None], [2, 0.5]]}, "JSON has no NaN"
    assert back["sections"][0]["scalars"] == document["sections"][0]["scalars"]
    assert as_json(back) == as_json(document)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b'{"schema": 1', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b'{"schema": NaN}', "not valid JSON"),
        (b"[" * 100000, "not valid JSON"),
        (b"[1, 2]", "no field 'schema'"),
        (b'{"accuracy": 1}', "no field 'schema'"),
        (b'{"schema": 99}', "schema 99"),
        (b'{"schema": 1, "title": "x"}', "'run' is missing"),
    ],
)
def test_a_foreign_or_damaged_file_is_one_clear_error(tmp_path, content, says):
    file = tmp_path / "other.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        read_results(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("scalars", {"clean_accuracy": "high"}), ("key_figures", [{"scalar": 1}]), ("epoch", None), ("tables", {})],
)
def test_a_damaged_section_is_named(tmp_path, document, key, value):
    document["sections"][0][key] = value
    file = tmp_path / "results.json"
    file.write_bytes(as_json(document))
    with pytest.raises(InputError, match=r"sections\[0\]"):
        read_results(file)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_results(tmp_path / "nowhere.json")


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    write_atomically(file, b"old")
    seen = {}

    def killed(source, target):
        seen["target"] = file.read_bytes(), os.path.basename(source)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(InputError, match="No space left"):
            write_atomically(file, b"new")
    assert seen["target"] == (b"old", ".results.json.tmp")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_killed_writer_leaves_one_whole_version(tmp_path):
    file = tmp_path / "results.json"
    code = (
        "import sys, pathlib\n"
        "from lightning_adv.reports.storage import write_atomically\n"
        "while True:\n"
        "    for letter in (b'a', b'b'):\n"
        "        write_atomically(pathlib.Path(sys.argv[1]), letter * 3_000_000)\n"
        "        print('written', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE) as writer:
        for _ in range(3):
            assert writer.stdout.readline() == b"written\n"
        writer.kill()
    assert file.read_bytes() in (b"a" * 3_000_000, b"b" * 3_000_000)


def test_a_folder_that_is_a_file_is_an_input_error(tmp_path):
    (tmp_path / "report").write_text("")
    with pytest.raises(InputError, match="choose a writable folder"):
        write_atomically(tmp_path / "report" / "index.html", b"")


def test_unserialisable_data_is_a_programming_error(document):
    document["sections"][0]["data"]["path"] = object()
    with pytest.raises(TypeError):
        as_json(json.loads("{}") | document)
