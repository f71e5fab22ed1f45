"""A validation that is cut is repeated from the checkpoint of its beginning; the run ends as if nobody had cut it."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging

from lightning_adv.callbacks import LastCheckpoint, StopOnSignal
from tests.callbacks.test_last_checkpoint import fitted


class EveryBeginning(StopOnSignal):
    """Keeps what would be saved of each validation, as late as it can be cut."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.files = folder, []

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        """Averaged weights, where there are, stand in the place of the others here."""
        self.files.append(self.folder / f"{len(self.files)}.ckpt")
        torch.save(self._beginning, self.files[-1])


@pytest.mark.parametrize(
    ("options", "averaging"),
    [({}, []), ({"accumulate_grad_batches": 2}, []), ({"val_check_interval": 2}, []), ({}, [0.8])],
    ids=["plain", "accumulating", "validating-in-between", "averaging-weights"],
)
def test_a_run_goes_on_from_the_beginning_of_any_validation_bit_for_bit(tmp_path, options, averaging):
    def others() -> list:
        return [LastCheckpoint(folder=str(tmp_path / "last")), *(EMAWeightAveraging(decay=each) for each in averaging)]

    kept = EveryBeginning(tmp_path)
    weights, evaluated, reported = fitted(kept, *others(), **options)
    assert len(kept.files) == (6 if "val_check_interval" in options else 3)
    for checkpoint in kept.files:
        torch.manual_seed(99)  # a new process would not have the old one's random numbers
        resumed, history, report = fitted(StopOnSignal(), *others(), checkpoint=checkpoint, **options)
        assert all(torch.equal(weights[key], resumed[key]) for key in weights), checkpoint.name
        assert history == evaluated, checkpoint.name
        assert report == reported, checkpoint.name
