import re

import numpy as np
import pytest
import torch

from experiments.inspection_power.__main__ import nets
from experiments.inspection_power.measure import SETTINGS, _strongest
from experiments.inspection_power.nets import DATA, KINDS, Net, in_turn, own_images
from experiments.inspection_power.rules import RULES, judged
from experiments.inspection_power.tables import (
    CURVES,
    all_judged,
    curves,
    networks_table,
    of_another_kind,
    rules_table,
    scores_of,
    taken,
    taken_table,
)
from experiments.page import RESULTS
from lightning_adv.metrics.detection import auroc
from lightning_adv.results.inspection import POWER


def found(seed, backdoor=None):
    generator = np.random.default_rng(seed)
    norms = 60 * np.exp(0.2 * generator.normal(size=(2, 10)))
    margins, shares = 20 + generator.normal(size=10), 0.01 * generator.random(10)
    sizes = np.tile([1.0, 0.4, 0.1], (2, 10, 1)) + 0.01 * generator.random((2, 10, 3))
    left = 0.9
    if backdoor is not None:
        norms[:, backdoor], margins[backdoor], shares[backdoor], sizes[:, backdoor], left = 5, 70, 0.9, 0.95, 0.1
    cleansed = [
        {"norms": norm.tolist(), "sizes": size.tolist(), "unlearnt": [0, left]}
        for norm, size in zip(norms, sizes, strict=True)
    ]
    return {"pixels": 28 * 28, "neural_cleanse": cleansed, "mm_bd": margins.tolist(), "bti_dbf": shares.tolist()}


@pytest.mark.parametrize("rule", RULES)
def test_a_backdoored_network_scores_above_clean_ones(rule):
    references = [found(100 + seed) for seed in range(3)]
    clean = [RULES[rule](found(seed), references) for seed in range(8)]
    backdoored = [RULES[rule](found(seed, seed % 10), references) for seed in range(8)]
    assert auroc(torch.tensor(clean), torch.tensor(backdoored)) > 0.85


def test_a_threshold_is_chosen_on_one_half_and_judged_on_the_other():
    scores = {"clean": [1.0, 5.0, 3.0, 2.0], "badnets": [4.0, 3.0, 2.0, 9.0]}
    told = judged("rule", {kind: {Net(kind, i): s for i, s in enumerate(each)} for kind, each in scores.items()})
    assert told.threshold == 3.0
    assert told.chosen_power == 0.5
    assert told.false_alarms == (1, 2)
    assert told.caught == {"badnets": (1, 2)}
    assert told.area == 0.75


def test_networks_of_every_kind_come_in_turn_each_with_images_of_its_own():
    whole = nets(4)
    assert [sum(net.kind == kind for net in whole) for kind in KINDS] == [8, 4, 4, 4, 4, 4, 4]
    assert {net.kind for net in whole[:14]} == set(KINDS)
    assert {net.data for net in nets(20, "GTSRB")} == {"GTSRB"}
    data = (torch.rand(12_000, 1, 1, 1), torch.arange(12_000))
    one, same, other = (
        own_images(Net(kind, number), data)[1] for kind, number in (("clean", 0), ("blend", 0), ("clean", 1))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_defender_of_many_classes_has_of_each_its_share_in_every_search():
    label = torch.arange(40).repeat_interleave(torch.arange(20, 60)).flip(0)
    image, taken = in_turn((torch.arange(len(label)), label))
    assert torch.equal(label[image], taken)
    assert image.unique().numel() == len(label)
    for part in (taken[:400:2], taken[1:400:2], taken[400:800:2]):
        assert part.bincount(minlength=40).min() >= 1
    assert (taken[:400].bincount() - 400 * label.bincount() / len(label)).abs().max() <= 2


def test_clean_labels_are_kept_and_cover_images_keep_theirs():
    x, y = torch.rand(200, 1, 28, 28), torch.arange(200) % 10
    for kind, changed, relabelled in (("sig", 16, 0), ("wanet", 20 + 36, 20), ("badnets", 10, 10)):
        images, labels = x.clone(), y.clone()
        KINDS[kind].apply(images, labels, 10, 3, seed=0)
        assert int((images != x).flatten(1).any(dim=1).sum()) == changed
        assert int((labels != y).sum()) == relabelled
        assert set(labels[labels != y].tolist()) <= {3}


def test_tables_count_networks_by_kind_and_name_the_best_rule_of_the_even_ones_first():
    kinds = {"clean": None, "badnets": 1, "reference": None}
    networks = {
        Net(kind, number): found(20 * place + number, where and number)
        | {"facts": {"accuracy": 0.9, "attack_success": where and 0.75 + 0.25 * (number % 2)}}
        for place, (kind, where) in enumerate(kinds.items())
        for number in range(6)
    }
    assert networks_table(networks).rows[1] == ["MNIST", "badnets", 6, pytest.approx(0.9), 0.875, 0.75]
    scores = scores_of(networks)
    rules = all_judged(scores)
    best = rules_table(rules).rows[0]
    assert (best[0], best[2], best[4]) == (rules[0].rule, 1.0, "3 of 3")
    assert [each.chosen_power for each in rules] == sorted((each.chosen_power for each in rules), reverse=True)
    flagged = taken(networks)
    assert taken(networks, {Net("badnets", 2)}) == {("MNIST", "badnets"): (1, 1)}
    assert flagged["MNIST", "badnets"] == (6, 6)
    assert flagged["MNIST", "clean"][0] <= 1
    assert taken_table("fresh", flagged).rows[0][2] == "6 of 6"
    assert of_another_kind(networks) == {"MNIST": (0, flagged["MNIST", "clean"][1])}
    assert len(curves(rules, scores).axes[0].lines) == CURVES


def test_a_network_is_compared_with_references_of_its_own_data_alone():
    networks = {Net(kind, number): found(number) for kind in ("clean", "reference") for number in range(4)}
    before = scores_of(networks)
    strangers = {Net("reference", number, "CIFAR10"): found(50 + number, 3) for number in range(4)}
    after = scores_of(networks | strangers)
    assert after == before


def test_settings_differ_where_networks_do():
    assert len(set(SETTINGS.values())) == len(DATA)


def test_a_part_of_a_trigger_is_where_its_mask_is_strongest():
    mask = torch.tensor([[[0.1, 0.9], [0.6, 0.2]]])
    assert torch.equal(_strongest(mask, 1.0), mask)
    assert _strongest(mask, 0.45).flatten().tolist() == pytest.approx([0, 0.9, 0, 0])
    assert _strongest(mask, 0.55).flatten().tolist() == pytest.approx([0, 0.9, 0.6, 0])


def test_what_a_report_says_of_the_second_look_is_what_its_page_says():
    told = re.findall(r"(\d+) of (\d+)", POWER)
    page = (RESULTS / "inspection_power.md").read_text()
    measured = re.search(r"flags (\d+) of (\d+) clean networks and (\d+) of (\d+) backdoored ones of those", page)
    assert told == [measured.groups()[:2], measured.groups()[2:]]
