"""A training script that has never heard of this package, in real processes, with torchrun and with its variables."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.processes import SECONDS, in_ranks, launched, torchrun

pytestmark = pytest.mark.slow

STRANGER = """
import json, sys
import torch
import pytorch_lightning as pl
from datetime import timedelta
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader, SubsetRandomSampler
from lightning_adv.attacks import FGSM
from lightning_adv.callbacks import AttackEvaluation
from tests.callbacks.strangers import images, trained

class Faulty(torch.utils.data.Dataset):
    def __len__(self):
        return 75
    def __getitem__(self, i):
        image, label = images(75)[i]
        return image, (label if i != 1 else label + 100)  # rank 1 alone meets it

strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60))
chosen = AttackEvaluation({"fgsm": FGSM(eps=0.06)}, save_images=10)
trainer = pl.Trainer(accelerator="cpu", devices=int(sys.argv[1]), strategy=strategy if sys.argv[1] != "1" else "auto",
                     callbacks=[chosen], logger=False, enable_progress_bar=False, enable_model_summary=False)
dataset = Faulty() if sys.argv[2] == "faulty" else images(75)
sampler = None if sys.argv[2] == "faulty" else SubsetRandomSampler(range(0, 75, 2))
trainer.validate(trained(), DataLoader(dataset, batch_size=8, sampler=sampler), verbose=False)
if trainer.is_global_zero:
    print(json.dumps(chosen.result.as_dict() | {"world": trainer.world_size}))
"""


def by_torchrun_itself(folder: Path) -> str:
    """What two ranks print that the real launcher starts."""
    (folder / "stranger.py").write_text(STRANGER)
    process = launched(folder, ["--standalone", "--nproc-per-node=2"], ["stranger.py", "2", "subset"], starts=2)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err[-4000:]
    return out


def test_a_strangers_script_counts_alike_under_torchrun(tmp_path):
    printed, saved = [], []
    for counted in (lambda: torchrun(STRANGER, tmp_path, 1, 1, "subset"), lambda: by_torchrun_itself(tmp_path)):
        printed.append(counted())
        with np.load(tmp_path / "adversarial" / "attacks" / "fgsm" / "images.npz") as arrays:
            saved.append(dict(arrays))
    one, two = (json.loads(each.splitlines()[-1]) for each in printed)
    assert (one.pop("world"), two.pop("world")) == (1, 2)
    assert one["samples"] == two["samples"] == 38
    for name in ("clean_correct", "worst_case_correct", "per_class_samples", "worst_case_per_class"):
        assert one[name] == two[name]
    assert len(saved[0]["index"]) == 10
    for name, array in saved[0].items():
        np.testing.assert_allclose(array, saved[1][name], atol=1e-6)


def test_a_mistake_that_one_rank_meets_ends_them_all(tmp_path):
    done = in_ranks(STRANGER, tmp_path, 2, 2, "faulty")
    assert all(each.returncode > 0 for each in done)
    assert any("is outside [0, 4)" in each.stderr for each in done)
