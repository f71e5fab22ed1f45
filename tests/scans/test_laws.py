"""What holds for every scan."""

import copy
from inspect import isabstract

import pytest
import torch

from lightning_adv.errors import InputError
from lightning_adv.scans import ActivationClustering, Beatrix, LowestLoss, SCAn, Scan, SpectralSignatures, StripScan
from tests.scans.problems import POISONED, batches, images, model, truth

SCANS: dict[str, Scan] = {
    "clustering": ActivationClustering(largest_share=0.25),
    "spectral": SpectralSignatures(share=0.16),
    "scan": SCAn(ridge=0.1),
    "beatrix": Beatrix(),
}
every_scan = pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)


def clean() -> list:
    """Clean images of every class, that are no training images."""
    return batches(images(each=20, poisoned=0, seed=1))


def test_every_scan_is_asked():
    ours = {each for each in _below(Scan) if each.__module__.startswith("lightning_adv.") and not isabstract(each)}
    assert {type(each) for each in SCANS.values()} == ours - {LowestLoss, StripScan}, "which have laws of their own"


def _below(cls: type) -> set[type]:
    return {each for sub in cls.__subclasses__() for each in {sub} | _below(sub)}


@every_scan
def test_planted_images_are_found_by_their_numbers_and_their_class_is_flagged(scan):
    report = scan(model(), batches(images()), clean())
    assert set(truth()) <= set(report.suspects.tolist())
    assert report.index[report.worst(8)].sort().values.tolist() == truth()
    assert report.flagged == [POISONED]
    assert [each.label for each in report.classes] == list(range(6))
    assert sum(each.suspects for each in report.classes) == int(report.suspect.sum())


@every_scan
def test_no_class_of_clean_images_is_flagged(scan):
    assert scan(model(), batches(images(poisoned=0)), clean()).flagged == []


@every_scan
def test_the_report_depends_neither_on_batches_nor_on_the_order_of_the_images(scan):
    expected, parts = scan(model(), batches(images()), clean()), images()
    shuffled = torch.randperm(len(parts[0]), generator=torch.Generator().manual_seed(3))
    found = scan(model(), batches(tuple(part[shuffled] for part in parts), 7), clean())
    for name in ("index", "label", "suspect"):
        assert torch.equal(vars(found)[name], vars(expected)[name])
    torch.testing.assert_close(found.score, expected.score, rtol=1e-3, atol=1e-5)


@every_scan
def test_two_processes_find_what_one_finds(scan):
    whole = batches(images(), 30)
    parts = [scan.examine(model(), whole[rank::2], clean()) for rank in (0, 1)]
    expected, found = scan(model(), whole, clean()), scan.judge(parts)
    assert torch.equal(found.suspect, expected.suspect)
    torch.testing.assert_close(found.score, expected.score, rtol=1e-3, atol=1e-5)
    assert found.flagged == expected.flagged


@every_scan
def test_model_and_generator_are_left_bit_for_bit_as_they_were(scan):
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5), *model()).train()
    before, drawn = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    scan(net, batches(images()), clean())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(module.training for module in net.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())


@every_scan
def test_images_that_break_the_model_are_left_out_and_said(scan):
    class Breaks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model()

        def forward(self, x):
            return self.net(torch.where(x.amax(dim=(1, 2, 3), keepdim=True) > 0.97, torch.nan, x))

    image, label, number = images()
    image[5] = 0.99
    report = scan(Breaks(), batches((image, label, number)), clean())
    assert len(report.index) == len(number) - 1
    assert int(number[5]) not in report.index.tolist()
    assert "1 of 300 images" in report.warnings[0]


@every_scan
def test_a_class_of_too_few_images_has_no_verdict(scan):
    image, label, number = images()
    kept = (label != 5) | (number < 130)
    report = scan(model(), batches((image[kept], label[kept], number[kept])), clean())
    assert [each.flagged for each in report.classes][5] is None
    assert not report.suspect[report.label == 5].any()
    assert any("no verdict on class 5" in text for text in report.warnings)


@every_scan
def test_a_loader_without_images_is_refused(scan):
    with pytest.raises(InputError, match="without images"):
        scan(model(), [], clean())


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: ActivationClustering(silhouette=1.0), "silhouette"),
        (lambda: ActivationClustering(largest_share=0.6), "largest_share"),
        (lambda: ActivationClustering(dimensions=0), "dimensions"),
        (lambda: SpectralSignatures(share=0), "share"),
        (lambda: SpectralSignatures(threshold=-1), "threshold"),
        (lambda: SCAn(threshold=0), "threshold"),
        (lambda: SCAn(ridge=-1), "ridge"),
        (lambda: Beatrix(orders=0), "orders"),
        (lambda: Beatrix(clip=0), "clip"),
        (lambda: StripScan(overlays=0), "overlays"),
        (lambda: StripScan(false_rejection_rate=0), "false_rejection_rate"),
        (lambda: StripScan(alpha=1), "alpha"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line_that_names_it(wrong, name):
    with pytest.raises(InputError, match=name) as error:
        wrong()
    assert "\n" not in str(error.value)


def test_a_layer_that_the_model_does_not_have_is_refused_before_the_run():
    with pytest.raises(InputError, match="no layer 'head'"):
        SpectralSignatures(layer="head").check(model(), images()[0][:1])
