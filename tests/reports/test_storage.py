import json
import math

import pytest

from lightning_adv.errors import InputError
from lightning_adv.reports.storage import as_json, read_results, results_document, section_document


@pytest.fixture
def document(robustness, provenance):
    section = section_document(robustness(), ["1-1_a.png"])
    return results_document("A run", provenance, [section], {"val/loss": [(1, math.nan), (2, 0.5)]}, {})


def test_results_come_back_as_they_were_written(tmp_path, document):
    (tmp_path / "results.json").write_bytes(as_json(document))
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
    [
        ("scalars", {"clean_accuracy": "high"}),
        ("scalars", {"clean_accuracy": 10**400}),
        ("key_figures", [{"scalar": "a", "label": "a", "basis": "", "card": True, "interval": [0, 10**400]}]),
        ("key_figures", [{"scalar": 1}]),
        ("epoch", None),
        ("tables", {}),
    ],
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


def test_unserialisable_data_is_a_programming_error(document):
    document["sections"][0]["data"]["path"] = object()
    with pytest.raises(TypeError):
        as_json(json.loads("{}") | document)
