import collections
import io
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.models.contents import inspect_file, left_out
from lightning_adv.models.pickled import COMPUTED, names_in_pickles


class Runs:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("mark",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_a_pickle_of_any_protocol_would_run_is_named_and_not_run(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"net": {"w": [1.0]}, "x": Runs()}, protocol=protocol))
    assert inspect_file("evil.pkl").code == [f"{os.mkdir.__module__}.mkdir"]
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("archive", [True, False])
def test_code_beside_tensors_is_found_in_both_formats_of_torch(archive, tmp_path):
    content = {"w": torch.ones(3), "x": Runs(), "h": torch.ones(2).half()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=archive)
    assert inspect_file(tmp_path / "a.pth").code == [f"{os.mkdir.__module__}.mkdir"]


def test_a_pickle_before_an_archive_and_the_archive_are_both_looked_into(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "plain.pth")
    (tmp_path / "both.pth").write_bytes(pickle.dumps(Runs()) + (tmp_path / "plain.pth").read_bytes())
    assert zipfile.is_zipfile(tmp_path / "both.pth")
    contents = inspect_file(tmp_path / "both.pth")
    assert contents.code == [f"{os.mkdir.__module__}.mkdir"]
    assert contents.kind == "a pickle and a torch archive in one"


def test_a_later_pickle_of_torchs_old_format_counts_also_where_it_breaks_off(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "plain.pth", _use_new_zipfile_serialization=False)
    text = (tmp_path / "plain.pth").read_bytes()
    first = io.BytesIO(text)
    pickle.load(first)
    broken = pickle.dumps(Runs(), protocol=2)[:-1] + b"\xff"
    (tmp_path / "evil.pth").write_bytes(text[: first.tell()] + broken)
    assert inspect_file(tmp_path / "evil.pth").code == [f"{os.mkdir.__module__}.mkdir"]


def test_a_name_that_is_put_together_while_it_is_read_counts_as_code():
    # posix.system, the first part of which a call returns: no text of the stack names it
    text = b"\x80\x04cbuiltins\nstr\nX\x05\x00\x00\x00posix\x85RX\x06\x00\x00\x00system\x93X\x04\x00\x00\x00true\x85R."
    assert names_in_pickles(io.BytesIO(text)) == (["builtins.str", COMPUTED], True)


def test_a_name_from_the_memo_is_followed():
    text = b"\x80\x04X\x05\x00\x00\x00posixq\x070X\x06\x00\x00\x00systemq\x080h\x07h\x08\x93."
    assert names_in_pickles(io.BytesIO(text))[0] == ["posix.system"]


def test_a_program_in_an_archive_is_code(tmp_path):
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/code/__torch__.py", "x = 1")
    assert inspect_file(tmp_path / "script.pt").code == ["script/code/__torch__.py"]


@pytest.mark.parametrize("kind", ["safetensors", "archive", "old"])
def test_a_file_of_tensors_holds_no_code_and_says_what_it_holds(kind, tmp_path):
    weights = collections.OrderedDict(w=torch.ones(3, 2), b=torch.zeros(2))
    if kind == "safetensors":
        save_file(weights, tmp_path / "a.safetensors")
    else:
        path = tmp_path / "a.pth"
        torch.save(
            {"net": weights, "epoch": 3, "t": "class_path: my.Net"}, path, _use_new_zipfile_serialization=kind != "old"
        )
    (path,) = tmp_path.iterdir()
    contents = inspect_file(path)
    assert contents.code == []
    assert contents.size == path.stat().st_size
    if kind == "safetensors":
        assert contents.entries == {"b": "tensor of 2", "w": "tensor of 3 x 2"}
    else:
        assert contents.entries["net"] == "2 tensors, 8 numbers"
        assert contents.entries["epoch"] == "3"
        assert contents.class_paths == ["my.Net"]


def test_tensors_that_a_model_does_not_use_are_named_whatever_the_others_are_called(tmp_path):
    model = nn.Linear(2, 3)
    renamed = {f"module.fc.{key}": each.double() for key, each in model.state_dict().items()}
    torch.save({"state_dict": renamed | {"extra": torch.full((4,), 9.0)}}, tmp_path / "a.pth")
    assert left_out(tmp_path / "a.pth", model) == ["state_dict.extra"]


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04broken"])
def test_what_is_neither_weights_nor_code_is_refused(content, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pth"):
        inspect_file(tmp_path / "a.pth")
