"""Files that hold a program instead of weights: refused by their content, with what to do."""

import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import save

from lightning_adv.errors import InputError
from lightning_adv.models import open_model, read_state_dict
from tests.processes import run


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, net = tmp_path_factory.mktemp("programs"), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    torch.save(net, folder / "module")
    torch.save(net, folder / "old_module", _use_new_zipfile_serialization=False)
    return folder


@pytest.mark.parametrize("kind", ["module", "old_module"])
def test_a_pickled_module_is_told_from_weights_with_a_class_among_them(kind, programs, tmp_path):
    path = shutil.copy(programs / kind, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"whole torch.nn.modules.container.Sequential.*model\.state_dict\(\)"):
        read_state_dict(path)
    torch.save({"loss": nn.CrossEntropyLoss(), "net": {"a": torch.ones(2)}}, tmp_path / "with_loss.pth")
    with pytest.raises(InputError, match=r"it asks for .*CrossEntropyLoss"):
        read_state_dict(tmp_path / "with_loss.pth")


@pytest.mark.parametrize("damage", ["no pickle", "two pickles", "a circle of memos"])
def test_a_damaged_archive_is_still_one_line(damage, tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        if damage != "no pickle":
            archive.writestr(
                "net/data.pkl", pickle.dumps(nn.Linear, protocol=2) if "two" in damage else b"\x80\x02h\x00."
            )
        archive.writestr("other/data.pkl" if "two" in damage else "net/version", b"3")
    with pytest.raises(InputError) as refusal:
        read_state_dict(tmp_path / "net.pth")
    assert "\n" not in str(refusal.value)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize(("of_lightning", "told"), [(True, "consolidate_checkpoint"), (False, "dcp_to_torch")])
def test_a_checkpoint_in_shards_is_refused_with_the_command_that_makes_one_file_of_it(of_lightning, told, tmp_path):
    save({"state_dict": {"a": torch.ones(2)}}, checkpoint_id=tmp_path, no_dist=True)
    if of_lightning:
        torch.save({"pytorch-lightning_version": "2.6.0"}, tmp_path / "meta.pt")
    for read in (read_state_dict, lambda path: open_model(path, num_classes=2, in_channels=1, image_size=(2, 2))):
        with pytest.raises(InputError, match=f"a checkpoint in shards, whose list is a pickle.*{told}"):
            read(tmp_path)


SPREAD = """
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
state = {"fc.weight": distribute_tensor(torch.ones(2, 4), init_device_mesh("cpu", (1,)), [Shard(0)])}
torch.save(state, "bare.pth")
torch.save({"state_dict": state, "epoch": 1}, "whole.ckpt")
dist.destroy_process_group()
"""

READ = """
import sys
from lightning_adv.errors import InputError
from lightning_adv.models import read_state_dict

for imported in (False, True):
    for name in ("bare.pth", "whole.ckpt"):
        try:
            read_state_dict(name)
        except InputError as error:
            print(error)
    import torch.distributed.tensor
"""


@pytest.mark.slow
def test_tensors_that_processes_shared_out_are_named_whether_torch_knows_their_class_or_not(tmp_path):
    (tmp_path / "spread.py").write_text(SPREAD)
    assert run([sys.executable, "spread.py"], tmp_path).returncode == 0
    command = [sys.executable, "-W", "ignore", "-c", READ]  # cold: torch must not know the class yet
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("holds tensors that processes had shared out (DTensor)" in line for line in lines)
