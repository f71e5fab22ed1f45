import io
import sys
from collections.abc import Iterator
from itertools import count

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks.progress.rich_progress import CustomProgress
from rich.console import Console
from torch import nn

from lightning_adv.attacks import FGSM, WorstOf
from lightning_adv.attacks.watching import part
from lightning_adv.callbacks import Bars, EpochLine, ResultLines
from lightning_adv.evaluation.progress import say, track
from tests.callbacks.strangers import trainer
from tests.callbacks.terminal import frames


def tracked(callback: Callback, seconds: float) -> list[int]:
    """Ten items, each of which takes so many seconds."""
    return list(track(trainer(callback), range(10), "pgd", clock=count(step=seconds).__next__))


@pytest.mark.parametrize("teller", [EpochLine, ResultLines])
def test_without_a_terminal_a_long_evaluation_says_how_far_it_is(teller, capsys):
    assert tracked(teller(), 20) == list(range(10))
    assert capsys.readouterr().out.splitlines() == [
        "pgd: 2 of 10 batches in 0:00:40, about 0:02:40 left",
        "pgd: 4 of 10 batches in 0:01:20, about 0:02:00 left",
        "pgd: 6 of 10 batches in 0:02:00, about 0:01:20 left",
        "pgd: 8 of 10 batches in 0:02:40, about 0:00:40 left",
    ]


def test_without_a_terminal_an_attack_that_takes_long_says_so_in_the_midst_of_a_batch(capsys):
    attack, clock = FGSM(eps=0.1), count(step=20).__next__
    for _ in track(trainer(EpochLine()), [0], "fgsm", clock=clock):
        attack.run(nn.Flatten(), torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
    assert capsys.readouterr().out.splitlines() == ["fgsm: 2 passes in batch 1 of 1, 0:00:40"]


@pytest.mark.parametrize(("callback", "seconds"), [(EpochLine(), 2), (Callback(), 1000)])
def test_a_short_one_and_one_in_a_trainer_of_ones_own_say_nothing(callback, seconds, capsys):
    assert tracked(callback, seconds) == list(range(10))
    assert capsys.readouterr().out == ""


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def terminal() -> tuple[Trainer, Bars, io.StringIO]:
    """A trainer with bars, whose thread draws all the time, and what they write."""
    written, bars = io.StringIO(), Bars()
    console = Console(file=written, force_terminal=True, width=60, color_system=None)
    bars.progress = CustomProgress(console=console, refresh_per_second=10_000)
    runner = Trainer(accelerator="cpu", devices=1, callbacks=[bars], logger=False, enable_checkpointing=False)
    return runner, bars, written


def test_a_bar_moves_with_the_passes_of_an_attack_and_goes_when_its_batch_is_done(monkeypatch):
    monkeypatch.setattr("lightning_adv.evaluation.progress.PATIENCE", 0.0)
    runner, bars, written = terminal()
    with bars.progress:
        for _ in track(runner, [0], "evaluation"):
            with part("worst"):
                WorstOf([FGSM(eps=0.1)]).run(nn.Flatten(), torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
            bars.progress.refresh()
    screens = frames(written.getvalue())
    assert any(line.startswith("  worst FGSM (passes)") for screen in screens for line in screen)
    assert not any("passes" in line or "evaluation" in line for line in screens[-1])


@pytest.mark.usefixtures("busy_threads")
def test_what_is_said_above_a_bar_leaves_no_second_one_behind():
    runner, bars, written = terminal()
    with bars.progress:
        task = bars.progress.add_task("epoch", total=400)
        for number in range(400):
            say(runner, f"line {number}")
            bars.progress.update(task, advance=1)
            if number % 3 == 0:
                second = bars.progress.add_task("pgd")  # makes the display higher
            elif number % 3 == 2:
                bars.progress.remove_task(second)
    screens = frames(written.getvalue())
    assert max(sum(line.startswith("epoch") for line in screen) for screen in screens) == 1
    assert [line for line in screens[-1] if line.startswith("line")] == [f"line {number}" for number in range(400)]
