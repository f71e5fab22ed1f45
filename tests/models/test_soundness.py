"""A file that is not what was saved, or whose weights are no numbers, is refused by whatever reads it."""

import io

import pytest
import torch
from pytorch_lightning import Trainer
from safetensors.torch import save_file
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.models import check_archive, check_finite, load_weights, read_checkpoint, read_state_dict
from lightning_adv.modules import ClassifierModule


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    state = {"weight": torch.randn(40, 10), "bias": torch.randn(40)}
    torch.save(state, whole := io.BytesIO())
    content, file = whole.getvalue(), tmp_path / "weights.pt"
    noticed = 0
    for position in range(0, 8 * len(content), 61):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        file.write_bytes(flipped)
        try:
            read = read_checkpoint(file)
        except InputError:
            noticed += 1
        else:
            assert read.keys() == state.keys(), position
            assert all(torch.equal(read[name], state[name]) for name in state), position
    assert noticed > 100


def test_torch_itself_takes_the_flipped_bit(tmp_path):
    weight = torch.ones(1000)
    torch.save({"weight": weight}, whole := io.BytesIO())
    content = bytearray(whole.getvalue())
    at = content.index(weight.numpy().tobytes())
    content[at + 3] ^= 0x40  # the highest bit of an exponent
    (tmp_path / "weights.pt").write_bytes(content)
    assert torch.load(tmp_path / "weights.pt", weights_only=True)["weight"].amax() > 1e38
    with pytest.raises(InputError, match=r"weights.pt is damaged: the check sum of \S+ is wrong"):
        read_state_dict(tmp_path / "weights.pt")


def test_a_file_cut_off_is_damaged_at_every_length(tmp_path):
    torch.save({"weight": torch.randn(100)}, whole := io.BytesIO())
    for length in range(4, len(whole.getvalue()), 97):
        (tmp_path / "weights.pt").write_bytes(whole.getvalue()[:length])
        with pytest.raises(InputError, match=r"weights\.pt is damaged or incomplete"):
            check_archive(tmp_path / "weights.pt")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("key", ["0.weight", "0.running_var"])
@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_weights_that_are_no_numbers_are_named(tmp_path, value, key, suffix):
    model = nn.Sequential(nn.BatchNorm1d(3))
    state = {name: each.clone() for name, each in model.state_dict().items()}
    state[key][1] = value
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if suffix == ".ckpt" else state, path)
    with pytest.raises(InputError, match=rf"holds NaN or infinite values in {key};"):
        load_weights(path, model)


def test_a_mask_of_zeros_and_minus_infinity_is_no_damage():
    check_finite(
        {"mask": torch.full((3, 3), -torch.inf).triu(1), "count": torch.tensor(3), "empty": torch.empty(0)}, ""
    )
    with pytest.raises(InputError, match="weight"):
        check_finite({"weight": torch.tensor([1.0, -torch.inf])}, "")


def test_a_lightning_module_refuses_weights_that_are_no_numbers(tmp_path):
    module = ClassifierModule(nn.Linear(2, 3), num_classes=3)
    with torch.no_grad():
        module.backbone.bias[1] = torch.nan
    trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    with pytest.raises(InputError, match=r"holds NaN or infinite values in backbone\.bias"):
        ClassifierModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, backbone=nn.Linear(2, 3))
