"""The first batch of a run sets BatchNorm's statistics; no other one does."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_adv.callbacks import FirstStatistics
from tests.callbacks.strangers import PlainModule, images, trainer


class Normed(PlainModule):
    """A norm on the images, which notes the momentum of every training batch."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.norm, self.momenta, self.fails = nn.BatchNorm2d(3, momentum=0.01), [], fails

    def training_step(self, batch: tuple, batch_idx: int) -> torch.Tensor:
        self.momenta.append(self.norm.momentum)
        loss = super().training_step((self.norm(batch[0]), *batch[1:]), batch_idx)
        if self.fails:
            raise RuntimeError("broken")
        return loss


def loader() -> DataLoader:
    return DataLoader(images(24), batch_size=8)


def fitted(module: Normed, epochs: int = 1, **resumed: object) -> Normed:
    run = trainer(FirstStatistics(), max_epochs=epochs, limit_val_batches=0)
    run.fit(module, loader(), loader(), **resumed)
    return module


def test_statistics_are_those_of_the_first_batch_moved_by_the_later_ones():
    module, x = fitted(Normed()), images(24).tensors[0].split(8)
    mean = x[0].mean(dim=(0, 2, 3))
    for later in x[1:]:
        mean = 0.99 * mean + 0.01 * later.mean(dim=(0, 2, 3))
    torch.testing.assert_close(module.norm.running_mean, mean)
    assert module.momenta == [1.0, 0.01, 0.01]
    assert module.norm.momentum == 0.01


def test_a_run_that_is_resumed_keeps_its_statistics(tmp_path):
    run = trainer(FirstStatistics(), max_epochs=1, limit_val_batches=0)
    run.fit(Normed(), loader(), loader())
    run.save_checkpoint(tmp_path / "one.ckpt")
    module = fitted(Normed(), epochs=2, ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    assert module.momenta == [0.01] * 3


def test_a_batch_that_fails_leaves_the_momentum_as_it_was():
    module = Normed(fails=True)
    with pytest.raises(RuntimeError, match="broken"):
        fitted(module)
    assert module.norm.momentum == 0.01
