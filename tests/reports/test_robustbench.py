import json
from dataclasses import replace

import pytest

from lightning_adv.attacks import AutoAttack
from lightning_adv.reports.html import write_report
from lightning_adv.reports.robustbench import IMAGENET_LIST, Submission, benchmark_entries
from lightning_adv.results.robustness import RobustnessResult
from tests.reports.test_html import Outline
from tests.results.samples import attack


@pytest.fixture
def measured(robustness):
    """An evaluation by AutoAttack of so many test images of two classes: 90% correct, 50% under attack."""

    def make(samples=10_000, eps=8 / 255, norm="Linf", version="standard", **changed):
        by = AutoAttack(eps, norm, version)
        row = replace(
            attack("aa", [samples // 4, samples // 4], eps=eps), norm=norm, samples=samples, description=repr(by)
        )
        counts = {"samples": samples, "per_class_samples": [samples // 2] * 2, "clean_correct": samples * 9 // 10}
        counts |= {"per_class_clean_correct": [samples * 9 // 20] * 2, "worst_case_correct": samples // 2}
        counts |= {"worst_case_per_class": [samples // 4] * 2, "attacks": [row], "stage": "test"}
        return robustness(**counts | changed)

    return make


@pytest.fixture
def cifar10(provenance):
    return replace(provenance, data="CIFAR10", model="preact_resnet18")


def test_the_standard_attack_on_all_test_images_is_a_claim_in_its_form(measured, cifar10):
    told = Submission(name="A paper", link="https://a.paper", authors="A, B", venue="ICML 2030", additional_data=False)
    (entry,) = benchmark_entries([measured()], cifar10, told)
    assert entry.doubts == []
    fields = entry.fields
    assert (fields["clean_acc"], fields["autoattack_acc"], fields["eps"]) == ("90.00", "50.00", "8/255")
    assert (fields["dataset"], fields["architecture"], fields["name"]) == ("cifar10", "preact_resnet18", "A paper")
    assert (fields["number_forward_passes"], fields["unreliable"], fields["claim"]) == (1, False, True)
    assert fields["reported"] is fields["footnote"] is None


@pytest.mark.parametrize(
    ("data", "samples", "eps", "norm"),
    [
        ("CIFAR10", 10_000, 0.5, "L2"),
        ("CIFAR100", 10_000, 8 / 255, "Linf"),
        (f"ImageFolder imagenet, list {IMAGENET_LIST}", 5_000, 4 / 255, "Linf"),
    ],
)
def test_every_table_of_robustbench_has_its_budget_and_its_images(measured, cifar10, data, samples, eps, norm):
    (entry,) = benchmark_entries([measured(samples, eps, norm)], replace(cifar10, data=data))
    assert entry.fields["claim"]


@pytest.mark.parametrize(
    ("result", "run", "says"),
    [
        ({"samples": 200}, {}, "200 of 10,000 images"),
        ({"eps": 0.031}, {}, "Linf 0.031 in place of Linf 8/255 or L2 0.5"),
        ({"norm": "L1"}, {}, "L1 8/255 in place of"),
        ({"version": "rand"}, {}, "not the standard version of AutoAttack"),
        ({"stage": "val"}, {}, "not the test images"),
        ({"draws": 20}, {}, "a randomised model"),
        ({}, {"cuts": ["images"]}, "cut to fit the time"),
        ({}, {"finished": None, "ended": "interrupted"}, "interrupted"),
        ({}, {"data": None}, "a set that is not told"),
        ({}, {"data": "PurifiedDataModule of CIFAR10"}, "none of RobustBench's image sets"),
        ({"samples": 5_000, "eps": 4 / 255}, {"data": "ImageFolder imagenet"}, "none of RobustBench's image sets"),
        ({"samples": 5_000, "eps": 4 / 255}, {"data": "ImageFolder imagenet, list 0"}, "none of RobustBench's"),
    ],
)
def test_less_than_the_protocol_is_no_claim_and_says_why(measured, cifar10, result, run, says):
    (entry,) = benchmark_entries([measured(**result)], replace(cifar10, **run), Submission(footnote="Mine."))
    (doubt,) = entry.doubts
    assert says in doubt
    assert entry.fields["claim"] is False
    assert entry.fields["footnote"] == f"Mine. No claim: {doubt}."


class Beaten(RobustnessResult):
    """A result that doubts those beside it."""

    def warnings_beside(self, other):
        return ["An attack that knows less breaks more."]


def test_figures_in_doubt_are_unreliable(measured, cifar10):
    (entry,) = benchmark_entries([measured(warnings=["Gradients look masked."])], cifar10)
    assert entry.fields["unreliable"] is True
    beside = Beaten(**vars(measured()) | {"attacks": []})
    (entry,) = benchmark_entries([measured(), beside], cifar10)
    assert entry.fields["unreliable"] is True


def test_other_attacks_are_no_entry(robustness, cifar10):
    assert benchmark_entries([robustness()], cifar10) == []


def test_the_page_says_at_its_top_that_too_few_images_are_no_claim(measured, cifar10, tmp_path):
    arguments = {"title": "A run", "histories": {}, "baselines": {}, "run": cifar10, "config_yaml": ""}
    page = write_report(tmp_path, sections=[measured(200), measured()], **arguments)
    text = " ".join(Outline(page.read_text()).text.split())
    assert "RobustBench no claim: 200 of 10,000 images (model_info.json)" in text
    assert "model_info_2.json: a claim: 50.00% under AutoAttack, 90.00% without" in text
    claims = [json.loads((tmp_path / file).read_text())["claim"] for file in ("model_info.json", "model_info_2.json")]
    assert claims == [False, True]
    write_report(tmp_path, sections=[measured()], **arguments)
    assert [each.name for each in tmp_path.glob("model_info*")] == ["model_info.json"]
