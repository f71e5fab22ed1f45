import pytest
import torch
from safetensors.torch import save_file

from lightning_adv.errors import InputError
from lightning_adv.scans import SpectralSignatures
from lightning_adv.scans.scan_file import load_suspects, save_scan
from tests.scans.problems import batches, images, model

GOOD = {
    "index": torch.tensor([3, 5]),
    "label": torch.tensor([0, 1]),
    "score": torch.tensor([0.5, 0.1]),
    "suspect": torch.tensor([True, False]),
}


def test_a_scan_comes_back_from_its_file(tmp_path):
    report = SpectralSignatures()(model(), batches(images()))
    save_scan(tmp_path / "scan.safetensors", report)
    for found, expected in zip(
        load_suspects(tmp_path / "scan.safetensors"), (report.index, report.label, report.suspect), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": torch.tensor([3, 3])}, "each its own"),
        ({"index": torch.tensor([-1, 3])}, "from 0"),
        ({"index": torch.tensor([3])}, "no scan"),
        ({"suspect": torch.tensor([1, 0])}, "no scan"),
        ({"more": torch.tensor([1, 0])}, "no scan"),
        ({name: each[:0] for name, each in GOOD.items()}, "damaged"),
    ],
)
def test_a_file_that_is_no_scan_is_refused(tmp_path, change, message):
    save_file(GOOD | change, tmp_path / "scan.safetensors")
    with pytest.raises(InputError, match=message):
        load_suspects(tmp_path / "scan.safetensors")


def test_a_file_that_is_not_there_or_not_whole_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        load_suspects(tmp_path / "scan.safetensors")
    (tmp_path / "scan.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="not a complete"):
        load_suspects(tmp_path / "scan.safetensors")
