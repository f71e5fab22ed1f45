import subprocess
import sys

import pytest

from lightning_adv.cli import entry, evaluate
from tests.cli.commands import run


def test_the_help_says_what_there_is_to_do():
    page = run(["--help"]).out
    for command in ("fit", "validate", "test"):
        assert f"    {command}  " in page
    assert "train a model" in page
    assert "python train.py fit --config configs/demo.yaml" in page
    assert "predict" not in page
    assert len(page.splitlines()) < 40


def test_the_help_of_the_program_is_that_of_the_real_parser_and_needs_no_torch(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    asks = "import sys; from lightning_adv.cli import train; train(['--help']); sys.exit('torch' in sys.modules)"
    page = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, timeout=60)
    assert page.returncode == 0, page.stderr
    assert page.stdout == run(["--help"], entry.train).out


def test_the_help_of_fit_begins_with_what_a_newcomer_needs():
    page = run(["fit", "--help"]).out
    first, *_ = page.split("\n\n")
    assert first.startswith("usage: python train.py fit [--config FILE ...]")
    order = ["--model.objective=TRADES", "\noptions:", "\nmodel (", "\ndata (", "\ntrainer (", "\nexamples:"]
    places = [page.index(each) for each in order]
    assert places == sorted(places)
    assert page.index("--run") < page.index("--trainer.accelerator")
    assert "pytorch_lightning." not in page
    assert max(map(len, page.splitlines())) <= 125


@pytest.mark.parametrize("name", ["ClassifierModule"])
def test_the_arguments_of_a_class_are_explained(name):
    page = run(["fit", "--model.help", name]).out
    assert "--model.backbone BACKBONE" in page
    assert "file with weights to start from" in page


def test_the_help_of_evaluate_is_its_own():
    page = run(["--help"], evaluate).out
    assert page.startswith("usage: python evaluate.py --ckpt_path FILE")
    assert "--model.backbone=preact_resnet18" in page
    assert "--trainer.callbacks" in page
