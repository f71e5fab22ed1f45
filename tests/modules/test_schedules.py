"""A learning rate that rises and falls over the whole run."""

from functools import partial

import pytest
import torch
from pytorch_lightning import Callback
from torch.optim.lr_scheduler import OneCycleLR

from lightning_adv.errors import InputError
from lightning_adv.modules import WarmUp
from lightning_adv.objectives import CrossEntropy, FreeAdversarialTraining
from tests.callbacks.recipes import EveryCheckpoint, SmallData, classifier
from tests.callbacks.strangers import trainer

LR = 0.1


def optimizer():
    return torch.optim.SGD([torch.zeros(1)], lr=LR)


def course(schedule, steps):
    rates = []
    for _ in range(steps):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return rates


def test_with_cosines_it_is_the_one_cycle_schedule_of_torch():
    steps, top = 40, 10  # torch counts the steps between the first rate and the last
    torchs = {"total_steps": steps + 1, "pct_start": (top + 1) / (steps + 1), "final_div_factor": 1e12}
    wanted = course(OneCycleLR(optimizer(), LR, **torchs, cycle_momentum=False), steps)
    assert course(WarmUp(optimizer(), warmup=top / steps, rise="cosine", span=steps), steps) == pytest.approx(wanted)


def test_lines_make_a_triangle():
    given = course(WarmUp(optimizer(), warmup=0.4, fall="linear", start=0.0, end=0.2, span=10), 10)
    assert given == pytest.approx(
        [LR * each for each in (0, 0.25, 0.5, 0.75, 1, *(1 - 0.8 * n / 6 for n in range(1, 6)))]
    )


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, runner, module, batch, batch_idx):
        self.seen.append(runner.optimizers[0].param_groups[0]["lr"])


def fitted(interval, *callbacks, objective=None, checkpoint=None, epochs=2):
    rates = Rates()
    schedule = partial(WarmUp, warmup=0.5, fall="linear", start=0.0)
    model = classifier(objective or CrossEntropy(), lr_scheduler=schedule, lr_interval=interval)
    runner = trainer(rates, *callbacks, max_epochs=epochs, num_sanity_val_steps=0)
    runner.fit(model, datamodule=SmallData(), ckpt_path=checkpoint)
    return rates.seen


def test_it_spans_the_run_in_steps_and_in_epochs_and_goes_on_where_it_was(tmp_path):
    saved = EveryCheckpoint(tmp_path, every_n_steps=3)
    seen = fitted("step", saved)
    assert seen == pytest.approx([LR * each / 5 for each in (0, 1, 2, 3, 4, 5, 4, 3, 2, 1)])
    assert fitted("step", checkpoint=saved.copies[0]) == seen[3:]
    longer = fitted("step", checkpoint=saved.copies[0], epochs=4)
    assert longer[-1] == pytest.approx(LR / 10)
    assert fitted("epoch", epochs=4)[::5] == pytest.approx([0, LR / 2, LR, LR / 2])
    replayed = fitted("step", objective=FreeAdversarialTraining(0.05, replays=2))
    assert replayed == pytest.approx([LR * each / 5 for each in (0, 1, 2, 3, 4, 5, 4, 3, 2, 1)])


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(InputError, match="shares in"):
        WarmUp(optimizer(), warmup=5)
    with pytest.raises(InputError, match="cosine or linear"):
        WarmUp(optimizer(), fall="step")
    with pytest.raises(InputError, match="give it span"):
        course(WarmUp(optimizer()), 1)
    with pytest.raises(InputError, match="this one has no end"):
        fitted("step", epochs=-1)
