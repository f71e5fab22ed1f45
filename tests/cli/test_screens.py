"""What a person sees in a terminal of 20 lines, kept as text beside this file.

Figures and times stand as #. Where a screen is meant to change: python -m tests.cli.test_screens
"""

import re
import shutil
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from tests.callbacks.terminal import frames
from tests.processes import ROOT
from tests.terminals import in_a_terminal

pytestmark = pytest.mark.slow

SCREENS = Path(__file__).parent / "screens"
ROWS = 20
PROGRAM = ROOT / "lightning_adv" / "__main__.py"
WEAK = {"class_path": "FGSM", "init_args": {"eps": 0.05}}
STRONG = {"class_path": "DeepFool", "init_args": {"eps": 0.2}}
WORST = {"class_path": "WorstOf", "init_args": {"attacks": {"weak": WEAK, "strong": STRONG}}}
NEAREST = {"class_path": "DeepFool", "init_args": {"steps": 3}}
ATTACKS = {"max_samples": 12, "pictures": "never", "attacks": {"worst": WORST, "near": NEAREST}}
IMAGES = {"max_train_samples": 200, "max_val_samples": 12, "max_test_samples": 12, "batch_size": 20}
TINY = {
    "data": {"class_path": "MNISTSubset", "init_args": IMAGES},
    "model": {"class_path": "ClassifierModule", "init_args": {"backbone": "mnist_cnn"}},
    "trainer": {
        "max_epochs": 2,
        "num_sanity_val_steps": 0,
        "callbacks": [{"class_path": "Report"}, {"class_path": "AttackEvaluation", "init_args": ATTACKS}],
    },
}
STRIKES = {"number": int(signal.SIGINT), "hook": "on_train_batch_start", "epoch": 1}
ACCIDENT = {"trainer": {"callbacks+": {"class_path": "tests.accidents.Signalled", "init_args": STRIKES}}}
COMMANDS = {
    "fit": (0, "fit --config tiny.yaml --run mine"),
    "interrupt": (130, "fit --config tiny.yaml --config accident.yaml --run mine"),
    "evaluate": (0, "evaluate --ckpt_path last.ckpt --config tiny.yaml --run mine"),
}


def screen(name: str, columns: int, folder: Path, checkpoint: Path) -> str:
    """The last lines of a terminal after a command, without its figures."""
    status, command = COMMANDS[name]
    for file, content in (("tiny.yaml", TINY), ("accident.yaml", ACCIDENT)):
        (folder / file).write_text(yaml.safe_dump(content, sort_keys=False))
    if name == "evaluate":
        shutil.copy(checkpoint, folder / "last.ckpt")
    ended, written = in_a_terminal([sys.executable, PROGRAM, *command.split()], folder, columns, ROWS)
    assert ended == status, written[-2000:]
    rows = [line[i : i + columns] for line in frames(written)[-1] for i in range(0, len(line), columns)]
    return "\n".join(map(plain, rows[-ROWS:])) + "\n"


def plain(line: str) -> str:
    """Figures as #, spaces that only fill up as two, bars as one sign.

    Example:
        >>> plain("epoch 1/2  clean   8.3%  pgd20 12.5%  0.3 s")
        'epoch 1/2  clean #%  pgd20 #%  # s'
    """
    line = re.sub(r"-:--:--|\d+[.:][\d.:]+|\d+(?=%| images| of \d+ images)", "#", line)
    return re.sub(r" {2,}", "  ", re.sub(r"[━╸╺]+", "━", re.sub(r"(\w) +#", r"\1 #", line))).rstrip()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screens")
    screen("fit", 80, folder, folder)
    return folder / "mine/checkpoints/last.ckpt"


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_shows_what_is_on_record(name, columns, checkpoint, tmp_path):
    shown = screen(name, columns, tmp_path, checkpoint)
    assert shown == (SCREENS / f"{name}_{columns}.txt").read_text(encoding="utf-8")


def renew() -> None:
    """Write what is shown now."""
    with TemporaryDirectory() as folder:
        for columns in (80, 120):
            for name in COMMANDS:
                place = Path(folder) / f"{name}_{columns}"
                place.mkdir()
                shown = screen(name, columns, place, place.parent / "fit_80/mine/checkpoints/last.ckpt")
                (SCREENS / f"{name}_{columns}.txt").write_text(shown, encoding="utf-8")


if __name__ == "__main__":
    renew()
