"""Tables of the image transformations experiment, from figures made up."""

import pytest
from torch import nn

from experiments.image_transformations.settings import PAPER, SETTINGS
from experiments.image_transformations.tables import (
    claims_table,
    fineness_table,
    main_table,
    mistakes_table,
    networks_table,
    sweep_table,
)

ATTACKS = ("none", "fgsm", "pgd", "cw", "deepfool", "fgsm_at_0.3", "pgd_at_0.3", "pgd_at_0.1")


@pytest.fixture
def found():
    """JPEG and its like at .8 blindly, whose attackers bring it to .1; one at .9 under DeepFool."""
    figures = {("none", each): {"blind": [0.9 if each == "none" else 0.0]} for each in ATTACKS}
    for purifier in ("jpeg", "gaussian", "kmeans", "tv"):
        figures |= {(purifier, each): {"blind": [0.7, 0.9], "bpda": [0.1]} for each in ATTACKS[1:]}
        figures[purifier, "none"] = {"blind": [0.85]}
    return figures | {("kmeans", "deepfool"): {"blind": [0.9], "bpda": [0.9]}}


def test_claims_stand_beside_searched_budgets_fixed_ones_and_an_attacker_who_knows(found):
    rows = {row[0]: row for row in claims_table("CIFAR10", 1000, found).rows}
    interval = "(77.4\N{EN DASH}82.4%)"
    searched = f"fgsm 80.0 % {interval}, pgd 80.0 % {interval}, cw 80.0 % {interval}"
    known = "fgsm 10.0 %, pgd 10.0 %, cw 10.0 %"
    assert rows["JPEG"][2:] == ["85.0 %", searched, "fgsm 80.0 %, pgd 80.0 %", known]
    assert rows["undefended"][2] == "90.0 %"
    assert rows["DeepFool"][3] == "largest gain 90.0 % (kmeans)"


def test_numbers_of_budgets_have_a_row_and_purifiers_a_column():
    table = fineness_table(
        "MNIST", {500: {"undefended": [0.0], "jpeg": [0.8, 1.0]}, 1000: {"undefended": [0.1], "jpeg": [1.0]}}
    )
    assert (table.columns, table.rows) == (["budgets", "undefended", "jpeg"], [[500, 0.0, 0.9], [1000, 0.1, 1.0]])


def test_mistakes_are_counted_by_pair_of_classes():
    clean, attacked = [[5, 0], [0, 5]], [[1, 4, 0], [0, 5, 0], [1, 0, 4]]
    table = mistakes_table("MNIST", {"jpeg, none": clean, "jpeg, fgsm": attacked}, ["zero", "one", "two"])
    assert table.rows == [
        ["jpeg, none", 10, 0, 0, None, None],
        ["jpeg, fgsm", 15, 5, 2, "zero as one", 0.8],
    ]


def test_networks_are_named_with_what_the_paper_trains(found):
    ours, theirs = (networks_table("MNIST", each["MNIST"], nn.Linear(2, 1), {}, found) for each in (SETTINGS, PAPER))
    claimed = "2 conv + 2 FC, 10 epochs, 99 %"
    assert ours.rows == [["classifier", "zoo/mnist_standard", 3, "with the package", claimed, 0.9]]
    network = "mnist_cnn, width 20, hidden 500, kernel_size 5, pooling True"
    assert theirs.rows == [["classifier", network, 3, "10 epochs", claimed, 0.9]]


def test_the_main_table_ends_with_the_strongest_attacker(found):
    table = main_table("CIFAR10", 1000, (200, 50), found)
    rows = {row[0]: row for row in table.rows}
    assert table.columns[2:-1] == ["blind", "bpda"]
    assert rows["jpeg, pgd"] == ["jpeg, pgd", 0.0, pytest.approx(0.8), 0.1, 0.1]
    assert "Not measured: bpda_eot, adaptive, black_box;" in table.note
    assert "the first 200 under attacks that know the purifier, the first 50" in table.note


def test_the_note_of_a_sweep_names_its_images():
    values = {"10": [[0.9], [0.5], [0.1]]}
    assert sweep_table("x", "pgd", (100, 100), values).note.endswith("on the first 100 images.")
    assert "100 images, 50 where it averages" in sweep_table("x", "pgd", (100, 50), values).note
