import io
import os
import sys
from pathlib import Path

import pytest

from lightning_adv.cli import entry, program
from lightning_adv.cli.help import as_called, called
from lightning_adv.cli.interrupted import resuming_command
from lightning_adv.cli.runs import newest_checkpoint
from tests.cli.commands import TINY, run

PROGRAM = "/somewhere/bin/lightning-adv"
MODULE = "/somewhere/lightning_adv/__main__.py"
LAST = ("evaluate", "--ckpt_path", "last", "--trainer.callbacks=[Report, AttackEvaluation]")
FGSM = "--trainer.callbacks.attacks={fgsm: {class_path: FGSM, init_args: {eps: 8/255}}}"


@pytest.mark.parametrize("args", [[], ["--help"]])
def test_its_page_names_every_command(args):
    page = run(args, program).out
    for command in ("fit", "validate", "test", "evaluate", "audit", "leaderboard", "configs"):
        assert f"    {command}  " in page
    assert page.startswith("usage: lightning-adv COMMAND")
    assert max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--config", "demo", "fit", "--print_config"], ["fit", "--config", "demo", "--print_config"]),
        (["--config=demo", "--print_config", "fit"], ["fit", "--config=demo", "--print_config"]),
        (["--run", "test", "fit", "--config=demo", "--print_config"], None),
    ],
)
def test_options_may_stand_before_the_command(typed, meant):
    meant = meant or ["fit", "--run", "test", *typed[3:]]
    outcome = run(typed, program)
    assert outcome.status == 0, outcome.err
    assert outcome.out == run(meant, program).out


def test_the_words_that_started_the_process_begin_with_the_command(monkeypatch):
    """Other ranks are started by them, and a run is gone on with."""
    monkeypatch.setattr(sys, "argv", [PROGRAM, "--ckpt_path=none", "evaluate", "--json"])
    assert run_as_typed(program) == 2
    assert sys.argv == [PROGRAM, "evaluate", "--ckpt_path=none", "--json"]
    assert called() == ["lightning-adv", "evaluate"]


def run_as_typed(command) -> int:
    with pytest.raises(SystemExit) as end:
        command()
    return end.value.code


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("command", ["fit", "evaluate", "audit"])
def test_a_terminal_shows_something_before_imports_that_take_seconds(command, monkeypatch):
    screen, shown = Terminal(), []
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.delitem(sys.modules, "pytorch_lightning")
    monkeypatch.setattr(entry, "train" if command == "fit" else command, lambda args: shown.append(screen.getvalue()))
    program([command])
    assert shown == ["loading torch and Lightning\n"]


def test_an_unknown_command_is_answered_with_all_there_are():
    outcome = run(["evalute"], program)
    assert outcome.status == 2
    assert outcome.err.startswith("error: there is no command 'evalute'; choose fit, validate, test, evaluate, audit")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train.py", "fit"], ["python", "train.py"]),
        ([PROGRAM, "fit"], ["lightning-adv"]),
        ([PROGRAM, "evaluate"], ["lightning-adv", "evaluate"]),
        ([f"{PROGRAM}.exe", "audit"], ["lightning-adv", "audit"]),
        ([MODULE, "fit"], ["python", "-m", "lightning_adv"]),
        ([MODULE, "evaluate"], ["python", "-m", "lightning_adv", "evaluate"]),
        (["/somewhere/pytest/__main__.py", "evaluate"], ["python", "/somewhere/pytest/__main__.py"]),
    ],
)
def test_it_knows_how_it_was_called(argv, words, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    assert called() == words


def test_texts_speak_of_the_program_only_where_it_runs(monkeypatch):
    text = "python train.py fit --config configs/a/b.yaml; python evaluate.py; torchrun -- train.py fit (note the --)"
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert as_called(text) == text
    monkeypatch.setattr(sys, "argv", [PROGRAM])
    assert as_called(text) == "lightning-adv fit --config a/b; lightning-adv evaluate; torchrun -m lightning_adv fit"


def test_an_interrupted_command_goes_on_as_it_was_called(monkeypatch):
    monkeypatch.setattr(sys, "argv", [PROGRAM, "evaluate"])
    assert resuming_command(["--ckpt_path", "a b"], "runs/c") == "lightning-adv evaluate --ckpt_path 'a b' --run runs/c"
    monkeypatch.setitem(os.environ, "TORCHELASTIC_RUN_ID", "1")
    assert resuming_command(["--ckpt_path=a"], "c") == (
        "the same launcher, and lightning-adv evaluate --ckpt_path=a --run c"
    )


@pytest.mark.parametrize("command", ["fit", "evaluate", "audit"])
def test_help_pages_speak_of_the_program(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [PROGRAM, command])
    page = run([command, "--help"], program).out
    assert f"usage: lightning-adv {command} " in page
    assert "python " not in page
    assert "configs/" not in page


def test_the_last_checkpoint_of_all_runs_is_evaluated():
    assert run(["fit", "--config", "demo", *TINY], program).status == 0
    outcome = run([*LAST, FGSM, "--trainer.callbacks.max_samples=6", "--trainer.callbacks.pictures=never"], program)
    assert outcome.status == 0, outcome.err
    assert "note: the last checkpoint is runs/demo/" in outcome.err
    assert "report: runs/evaluate/" in outcome.out


def test_the_newest_checkpoint_is_found_however_a_run_was_named():
    for number, folder in enumerate(("runs/demo/now", "runs/mine", "runs/steps/of/5")):
        path = Path(folder, "checkpoints/last.ckpt")
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (number, number))
        assert newest_checkpoint() == path


def test_evaluating_nothing_is_refused(trained):
    checkpoint = f"--ckpt_path={trained / 'checkpoints/last.ckpt'}"
    outcome = run(["evaluate", checkpoint, "--trainer.callbacks=[Report]"], program)
    assert (outcome.status, outcome.err.splitlines()[-1].partition(":")[2].partition(":")[0]) == (
        2,
        " there is nothing to evaluate",
    )


def test_without_any_run_there_is_no_last_checkpoint():
    outcome = run(["evaluate", "--ckpt_path=last"], program)
    assert (outcome.status, "there is no checkpoint in runs/ yet" in outcome.err) == (2, True)
