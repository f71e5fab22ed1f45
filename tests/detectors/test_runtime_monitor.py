"""The monitor is the classifier plus a verdict: the detector's own, for an image and not for a batch, exportable."""

import pytest
import torch

from lightning_adv.attacks.noise import content_index
from lightning_adv.detectors import (
    STRIP,
    Detector,
    DetectorEnsemble,
    KernelDensity,
    LabelChangeRate,
    LocalIntrinsicDimensionality,
    ModelUncertainty,
    PaperMutation,
    RuntimeMonitor,
    ScaleUp,
    UniformMutation,
)
from lightning_adv.errors import InputError
from tests.detectors.problems import Learner, blobs, learnt, loader


def calibrated(name: str, model: Learner) -> Detector:
    detectors = {
        "lcr": LabelChangeRate(UniformMutation(0.6), mutations=40),
        "lcr-paper": LabelChangeRate(PaperMutation(5), mutations=40),
        "kd": KernelDensity(),
        "mu": ModelUncertainty(passes=10),
        "lid": LocalIntrinsicDimensionality(k=10),
        "strip": STRIP(overlays=8),
        "scale-up": ScaleUp(normalise=True),
    }
    detectors["ensemble"] = DetectorEnsemble({"kd": KernelDensity(), "mu": ModelUncertainty(passes=10)})
    detector = detectors[name].fit(model, loader())
    if isinstance(detector, DetectorEnsemble):
        return detector.learn_weights(model, blobs(40, seed=2)[0], torch.rand(40, 1, 8, 8))
    return detector.calibrate(model, loader(60, seed=2), false_positive_rate=0.3)


NAMES = ["lcr", "lcr-paper", "kd", "mu", "lid", "strip", "scale-up", "ensemble"]


@pytest.mark.parametrize("name", NAMES)
def test_the_exported_monitor_says_what_the_monitor_and_the_detector_say(name):
    model, x = learnt().eval(), blobs(16, seed=3)[0]
    detector = calibrated(name, model)
    monitor = RuntimeMonitor(model, detector)
    logits, suspicious = monitor(x)
    assert torch.equal(logits, model(x))
    assert torch.equal(suspicious, detector.score(model, x, index=content_index(x)) > detector.threshold)
    exported = torch.export.export(monitor, (x,), strict=False).module()
    again, verdict = exported(x)
    assert torch.allclose(again, logits, atol=1e-5)
    assert torch.equal(verdict, suspicious)


@pytest.mark.parametrize("name", ["lcr", "mu"])
def test_an_image_gets_one_verdict_whatever_batch_it_comes_in(name):
    model, x = learnt(), blobs(16, seed=3)[0]
    monitor = RuntimeMonitor(model, calibrated(name, model))
    suspicious = monitor(x)[1]
    assert torch.equal(torch.cat([monitor(each)[1] for each in x.split(1)]), suspicious)
    assert torch.equal(monitor(x.flip(0))[1].flip(0), suspicious)
    assert suspicious.any()
    assert not suspicious.all()


def test_rejected_images_have_no_answer_and_the_others_have_theirs():
    model, x = learnt(), blobs(16, seed=3)[0]
    monitor = RuntimeMonitor(model, calibrated("lcr", model), on_suspicion="reject")
    logits, suspicious = monitor(x)
    assert torch.equal(logits.isnan().all(dim=1), suspicious)
    assert not logits[~suspicious].isnan().any()


def test_a_monitor_does_not_train_and_takes_the_detectors_tensors_along():
    model = learnt().train()
    monitor = RuntimeMonitor(model, calibrated("ensemble", model)).train()
    assert not any(module.training for module in monitor.modules())
    monitor.to("meta")
    assert monitor.detector.detectors["kd"].reference.is_meta
    assert monitor.detector.regression.weight.is_meta


def test_the_number_of_an_image_sees_every_pixel_and_its_place():
    x = torch.rand(1, 1, 5, 5).repeat(26, 1, 1, 1)
    for i in range(25):
        x[i + 1, 0, i // 5, i % 5] += 1e-4
    assert len(content_index(x).unique()) == 26
    assert content_index(x[:1]) != content_index(x[:1].flip(3))


def test_a_detector_without_threshold_and_an_unknown_reaction_are_refused():
    with pytest.raises(InputError, match="no threshold"):
        RuntimeMonitor(learnt(), KernelDensity())
    with pytest.raises(InputError, match="flag or reject"):
        RuntimeMonitor(learnt(), LabelChangeRate(kappa_1=0.1), on_suspicion="panic")
