from functools import partial

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EMAWeightAveraging

from lightning_adv.attacks import FGSM
from lightning_adv.callbacks import EMA, SWA, AttackEvaluation, LastCheckpoint, Report
from lightning_adv.callbacks.stop_on_signal import before_validation
from lightning_adv.data import CutMix
from lightning_adv.errors import InputError
from tests.callbacks.recipes import EveryCheckpoint, SmallData, classifier
from tests.callbacks.strangers import trainer

EPOCHS = 3


def fitted(*callbacks, checkpoint=None, mix=None, **options):
    """Weights after the last epoch, and the callbacks' histories."""
    model = classifier()
    evaluation, report = AttackEvaluation({"fgsm": FGSM(eps=0.06)}, pictures="never"), Report()
    report._write = lambda *_: None  # its page is another test's
    every = [evaluation, report, *callbacks]
    runner = trainer(*every, **{"max_epochs": EPOCHS, "num_sanity_val_steps": 0} | options)
    runner.fit(model, datamodule=SmallData(mix=mix), ckpt_path=checkpoint)
    return model.state_dict(), evaluation.history, report.history


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate_grad_batches": 2}, {"val_check_interval": 0.5}],
    ids=["plain", "accumulating", "validating-in-between"],
)
def test_a_run_killed_after_any_step_goes_on_bit_for_bit(tmp_path, options):
    saved = EveryCheckpoint(tmp_path)
    weights, evaluated, reported = fitted(saved, **options)
    assert {"train/loss", "train/robust_accuracy", "val/loss"} <= reported.keys()
    assert len(saved.copies) >= 2 * EPOCHS
    for checkpoint in saved.copies:
        torch.manual_seed(99)  # a new process would not have the old one's random numbers
        resumed, history, report = fitted(checkpoint=checkpoint, **options)
        assert all(torch.equal(weights[key], resumed[key]) for key in weights), checkpoint.name
        assert history == evaluated, checkpoint.name
        assert reported == report, checkpoint.name


class BeforeLastValidation(Callback):
    """Keeps the checkpoint of which a run that is asked to end in its last validation goes on."""

    def __init__(self, path):
        self.path = path

    def on_validation_start(self, runner, module):
        if not runner.sanity_checking and runner.is_last_batch and runner.current_epoch == EPOCHS - 1:
            torch.save(before_validation(runner), self.path)


def test_a_run_interrupted_in_a_validation_keeps_the_figures_of_the_training_before_it(tmp_path):
    weights, evaluated, reported = fitted(BeforeLastValidation(path := tmp_path / "before.ckpt"))
    for checkpoint, again in (path, tmp_path / "again.ckpt"), (tmp_path / "again.ckpt", tmp_path / "third.ckpt"):
        resumed, history, report = fitted(BeforeLastValidation(again), checkpoint=checkpoint)
        assert all(torch.equal(weights[key], resumed[key]) for key in weights), checkpoint.name
        assert (history, report) == (evaluated, reported), checkpoint.name


@pytest.mark.parametrize(
    "averaging",
    [partial(EMAWeightAveraging, decay=0.8), partial(EMA, decay=0.9, start=0.3), partial(SWA, start_epoch=1)],
    ids=["lightning", "ramp-and-cutmix", "swa"],
)
def test_averaged_weights_are_resumed_bit_for_bit(averaging, tmp_path):
    saved = EveryCheckpoint(tmp_path, every_n_steps=3)
    weights, evaluated, _ = fitted(averaging(), saved, mix=CutMix())
    for checkpoint in saved.copies[:-1]:  # Lightning does nothing at all with a run that is complete
        torch.manual_seed(99)
        resumed, history, _ = fitted(averaging(), checkpoint=checkpoint, mix=CutMix())
        assert all(torch.equal(weights[key], resumed[key]) for key in weights), checkpoint.name
        assert history == evaluated, checkpoint.name


def test_saves_every_n_steps_and_at_the_end_of_every_epoch(tmp_path):
    saved = EveryCheckpoint(tmp_path, every_n_steps=4)
    fitted(saved)
    steps = [torch.load(path, weights_only=True)["global_step"] for path in saved.copies]
    assert steps == [4, 5, 9, 10, 14, 15]  # epochs of five steps


def test_a_checkpoint_holds_plain_data_only(tmp_path):
    fitted(LastCheckpoint(folder=str(tmp_path)))
    torch.load(tmp_path / "last.ckpt", weights_only=True)  # raises at any object that is neither tensor nor plain


def test_an_interval_below_one_step_is_refused():
    with pytest.raises(InputError, match="every_n_steps of LastCheckpoint must be at least 1, got 0"):
        LastCheckpoint(every_n_steps=0)
