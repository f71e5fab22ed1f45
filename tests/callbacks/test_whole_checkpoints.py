"""Nothing that saves a checkpoint can leave half of one, and nothing loads a damaged one."""

import select
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_adv.callbacks import LastCheckpoint
from lightning_adv.callbacks.whole_checkpoints import WholeCheckpoints
from lightning_adv.errors import InputError
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import trainer
from tests.processes import environment
from tests.warm import Warm

OTHER_DISK = Path("/dev/shm")

SAVE = """
import sys, torch
from pytorch_lightning import LightningModule, Trainer
from lightning_adv.callbacks import LastCheckpoint
module, last = LightningModule(), LastCheckpoint(folder=sys.argv[1])
module.weight = torch.nn.Parameter(torch.zeros(5_000_000))
trainer = Trainer(accelerator="cpu", logger=False, callbacks=[last], enable_model_summary=False)
trainer.strategy.connect(module)
last.setup(trainer, module, "fit")
while True:
    trainer.save_checkpoint(last.path)
    print("saved", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not OTHER_DISK.is_dir(), reason="there is no second file system")
def test_the_old_checkpoint_or_the_new_is_there_at_every_moment_of_saving_on_another_disk(tmp_path_factory, tmp_path):
    folder = OTHER_DISK / tmp_path_factory.mktemp("saves").name
    folder.mkdir()
    (tmp_path / "save.py").write_text(SAVE)
    command, variables = [sys.executable, "save.py", str(folder)], environment() | {"TMPDIR": str(tmp_path)}
    try:
        assert folder.stat().st_dev != tmp_path.stat().st_dev, "the test wants two file systems"
        with Warm(command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True) as process:
            lines = [process.stdout.readline()]
            sizes = {(folder / "last.ckpt").stat().st_size}
            while len(lines) < 6:
                lines += [process.stdout.readline()] if select.select([process.stdout], [], [], 0)[0] else []
                sizes.add((folder / "last.ckpt").stat().st_size)
            process.kill()
        assert len(sizes) == 1, "half a checkpoint was there for a while"
        assert torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]["weight"].shape == (5_000_000,)
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def fit(*callbacks, folder, checkpoint=None, **options):
    runner = trainer(*callbacks, folder=folder, max_epochs=1, num_sanity_val_steps=0, limit_train_batches=1, **options)
    runner.fit(classifier(), datamodule=SmallData(), ckpt_path=checkpoint)
    return runner


def test_whatever_saves_in_a_trainer_with_last_checkpoint_saves_whole(tmp_path, monkeypatch):
    paths = []
    save = WholeCheckpoints.save_checkpoint

    def noted(self, checkpoint, path, storage_options=None):
        paths.append(Path(path).name)
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(WholeCheckpoints, "save_checkpoint", noted)
    fit(ModelCheckpoint(tmp_path, filename="best"), LastCheckpoint(folder=str(tmp_path)), folder=tmp_path)
    assert set(paths) == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in tmp_path.iterdir()} >= {"best.ckpt", "last.ckpt"}
    assert not list(tmp_path.glob(".*"))


def test_what_the_user_chose_to_save_with_stays(tmp_path):
    class Own(TorchCheckpointIO):
        pass

    runner = fit(LastCheckpoint(folder=str(tmp_path)), folder=tmp_path, plugins=[own := Own()])
    assert runner.strategy.checkpoint_io is own


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path):
    last = LastCheckpoint(folder=str(tmp_path))
    fit(last, folder=tmp_path)
    content = bytearray(last.path.read_bytes())
    content[len(content) // 2] ^= 1
    last.path.write_bytes(content)
    with pytest.raises(InputError, match=r"last\.ckpt is damaged"):
        fit(LastCheckpoint(folder=str(tmp_path)), folder=tmp_path, checkpoint=last.path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^cannot write \S+/file/below/last\.ckpt: [^\n]+ where a folder should be"):
        fit(LastCheckpoint(folder=str(tmp_path / "file" / "below")), folder=tmp_path)
