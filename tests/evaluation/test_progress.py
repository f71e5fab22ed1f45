import io
import sys
from collections.abc import Iterator
from itertools import count

import pytest
from pytorch_lightning import Callback, Trainer
from rich.console import Console
from rich.progress import Progress

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


@pytest.mark.usefixtures("busy_threads")
def test_what_is_said_above_a_bar_leaves_no_second_one_behind():
    written = io.StringIO()
    bars = Bars()
    # Its thread draws all the time.
    console = Console(file=written, force_terminal=True, width=60, color_system=None)
    bars.progress = Progress(console=console, refresh_per_second=10_000)
    runner = Trainer(accelerator="cpu", devices=1, callbacks=[bars], logger=False, enable_checkpointing=False)
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
