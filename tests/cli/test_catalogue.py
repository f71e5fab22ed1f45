import contextlib
import io
import re

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from pytorch_lightning.core.optimizer import LightningOptimizer

from lightning_adv.cli import program
from lightning_adv.cli.catalogue import KINDS, _classes
from lightning_adv.cli.classes import class_names, constructor_defaults
from lightning_adv.models import list_models
from tests.cli.commands import DEMO, resolved, run

NAMES = [(kind, name) for kind in KINDS for name in _classes(kind)]


def shown(*args: str) -> str:
    outcome = run([*args], program)
    assert outcome.status == 0, outcome.err
    return outcome.out


def test_the_kinds_name_what_there_is():
    page = shown("list")
    assert [line.split()[0] for line in page.splitlines()] == [*KINDS, "models"]
    for name in ("PGD", "TRADES", "NeuralCleanse", "CIFAR10", "AttackEvaluation", "ClassifierModule", "STRIP"):
        assert re.search(rf"\b{name}\b", page)


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_a_kind_stands_with_what_it_does(kind):
    lines = shown("list", kind).splitlines()
    assert [line.split()[0] for line in lines] == list(_classes(kind))
    assert not [line for line in lines if len(line.split()) < 3]


def test_models_are_a_kind_too():
    assert shown("list", "models").splitlines() == list_models()


@pytest.mark.parametrize("command", ["list", "help", "configs"])
def test_asked_for_help_a_command_says_what_it_does(command):
    assert shown(command, "--help").startswith(f"lightning-adv {command}: ")


@pytest.mark.parametrize("command", ["fit", "audit", "leaderboard", "configs"])
def test_help_knows_the_commands(command):
    assert shown("help", command) == shown(command, "--help") != ""


class Terminal(io.StringIO):
    """Ten columns wide."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", [["list", "attacks"], ["configs"]])
def test_a_narrow_terminal_is_no_mistake(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    with contextlib.redirect_stdout(Terminal()) as screen:
        program(command)
    assert len(screen.getvalue().splitlines()) > 10


def test_an_attack_stands_with_its_paper():
    lines = dict(line.split(maxsplit=1) for line in shown("list", "attacks").splitlines())
    for name, paper in {"PGD": "Madry et al., 2018", "Square": "Croce and Hein, 2021", "FAB": "2020"}.items():
        assert paper in lines[name].rpartition("(")[2], lines[name]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_argument_stands_on_the_page_and_what_is_to_be_written_is_valid(kind, name):
    page, cls = shown("help", name), _classes(kind)[name]
    defaults = constructor_defaults(f"{cls.__module__}.{cls.__name__}")
    assert re.findall(r"^  (\w+) \((?:needed|default .*)\)$", page, re.MULTILINE) == list(defaults)
    written = yaml.safe_load(re.search(r"in a configuration:\n  (.*)", page)[1])
    assert written["class_path"] == name
    plain = {key: value for key, value in defaults.items() if isinstance(value, (bool, int, float, str))}
    assert written["init_args"].keys() == plain.keys()
    same = [key for key, value in plain.items() if isinstance(value, (bool, str))]
    assert {key: written["init_args"][key] for key in same} == {key: plain[key] for key in same}


def taken(kind: str, name: str) -> set[str]:
    """Arguments that a command line takes for a class of a kind, as the parser's own help has them."""
    parser = ArgumentParser()
    parser.add_argument("--it", type=KINDS[kind].base)
    page = run(["--it.help", name], parser.parse_args).out
    return set(re.findall(r"^  --it\.(\w+)", page, re.MULTILINE))


@pytest.mark.parametrize(("kind", "name"), [each for each in NAMES if each[1] != "RunRecord"])
def test_a_page_has_the_arguments_that_the_command_line_takes(kind, name):
    page = shown("help", name)
    assert set(re.findall(r"^  (\w+) \((?:needed|default .*)\)$", page, re.MULTILINE)) == taken(kind, name)


def test_what_no_command_line_can_say_is_no_argument():
    assert "arguments:" not in shown("help", "RunRecord")  # it is given objects


def test_every_argument_of_an_attack_is_explained():
    page = shown("help", "PGD")
    assert "Source: Madry et al., 2018" in page
    assert "  eps (default 8/255)\n      radius of the ball, in pixel units of [0, 1]" in page
    for line, following in zip(page.splitlines(), page.splitlines()[1:], strict=False):
        if re.match(r"  \w+ \(", line):
            assert following.startswith("      "), line


@pytest.mark.parametrize("name", ["PGD", "TRADES", "MNIST", "AttackEvaluation"])
def test_the_command_line_of_a_page_is_accepted(name):
    typed = re.search(r"on a command line:\n((?:  .*\n)+)", shown("help", name))[1].split()
    typed = [each.replace("NAME", "pgd20") for each in typed]
    needed = ["--trainer.callbacks.attacks={fgsm: FGSM}"] if name == "AttackEvaluation" else []
    config = resolved(["fit", "--config", DEMO, *typed[:1], *needed, *typed[1:]])
    assert f".{name}" in yaml.safe_dump(config)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["list", "attack"], "there is no kind 'attack'; choose attacks, objectives"),
        (["help", "PDG"], "nothing is called 'PDG'; did you mean PGD?"),
        (["help"], "help needs a name, such as PGD"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(args, message):
    outcome = run(args, program)
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: {message}")


def test_what_a_trainer_makes_of_an_optimiser_is_no_class_to_choose():
    made = type("LightningSGD", (LightningOptimizer, torch.optim.SGD), {})
    assert made in torch.optim.SGD.__subclasses__()
    assert "LightningSGD" not in class_names(torch.optim.Optimizer)
