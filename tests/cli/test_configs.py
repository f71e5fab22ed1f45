from pathlib import Path

import pytest

from lightning_adv.cli import program
from lightning_adv.cli.configs import shipped, shipped_names, with_files
from lightning_adv.errors import InputError
from tests.cli.commands import CONFIGS, DEMO, run


def test_every_configuration_has_a_name_and_says_what_it_is():
    listed = run(["configs"], program).out.splitlines()
    files = {path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "sweeps"}
    assert {shipped(line.split()[0]) for line in listed} == files
    assert all(len(line.split()) > 3 for line in listed)


def test_a_name_stands_for_its_file_in_every_spelling():
    args = ["fit", "--config", "demo", "--config=callbacks/ema", "-c", "loggers/csv", "--run", "demo"]
    ema, csv = CONFIGS / "callbacks/ema.yaml", CONFIGS / "loggers/csv.yaml"
    assert with_files(args) == ["fit", "--config", DEMO, f"--config={ema}", "-c", str(csv), "--run", "demo"]


def test_a_file_of_ones_own_comes_before_a_name():
    Path("demo").write_text("data: MNIST")
    assert with_files(["fit", "--config", "demo"]) == ["fit", "--config", "demo"]


@pytest.mark.parametrize("name", ["../pyproject", "/etc/hostname", "", "demo.yaml/..", "demox"])
def test_what_is_no_name_is_left_to_be_refused(name):
    assert shipped(name) is None
    assert with_files(["fit", "--config", name]) == ["fit", "--config", name]


@pytest.mark.parametrize("typed", ["configs/evaluate/standard.yaml", "evaluate/standard.yaml"])
def test_a_path_of_the_checkout_is_answered_with_the_name(typed):
    with pytest.raises(InputError, match=r"that of the program is --config evaluate/standard$"):
        with_files([f"--config={typed}"])


def test_a_configuration_is_printed_and_copied_once():
    text = Path(DEMO).read_text()
    assert run(["configs", "demo"], program).out == text
    assert run(["configs", "demo", "folder/mine.yaml"], program).status == 0
    assert Path("folder/mine.yaml").read_text() == text
    again = run(["configs", "cifar10_pgd", "folder/mine.yaml"], program)
    assert (again.status, again.err) == (2, "error: folder/mine.yaml is there already: name another file\n")
    assert Path("folder/mine.yaml").read_text() == text


def test_an_unknown_name_is_refused_with_where_to_look():
    outcome = run(["configs", "nothing"], program)
    assert (outcome.status, "lightning-adv configs lists them" in outcome.err) == (2, True)


def test_names_are_in_order():
    assert shipped_names() == sorted(shipped_names())
