"""Detectors are set against attacks on any trainer, on held-out images, the same on one rank and on two."""

import json

import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule
from torch.utils.data import DataLoader

from lightning_adv.attacks import FGSM, PGD
from lightning_adv.backdoors import Patch, Triggered
from lightning_adv.callbacks import DetectionEvaluation
from lightning_adv.detectors import (
    IBDPSC,
    STRIP,
    Detector,
    DetectorEnsemble,
    KDEConfidence,
    KernelDensity,
    LabelChangeRate,
    LocalIntrinsicDimensionality,
    ModelUncertainty,
    ScaleUp,
    UniformMutation,
)
from lightning_adv.errors import InputError
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import CLASSES, PlainModule, images, trained, trainer
from tests.processes import torchrun

ATTACKS = {"fgsm": FGSM(eps=0.15), "pgd": PGD(eps=0.15, steps=5), "nothing": FGSM(eps=0.0)}


def evaluation(**options: object) -> DetectionEvaluation:
    detectors = {
        "lcr": LabelChangeRate(UniformMutation(0.3), mutations=20, max_mutations=60),
        "kd": KernelDensity(),
        "mu": ModelUncertainty(passes=10),
        "lid": DetectorEnsemble({"lid": LocalIntrinsicDimensionality(k=5)}),
    }
    return DetectionEvaluation(**({"detectors": detectors, "attacks": ATTACKS, "fit_samples": 96} | options))


def fitted(callback: DetectionEvaluation, **options: object):
    """A trainer that has trained on the strangers' images for one epoch and evaluated."""
    run = trainer(callback, max_epochs=1, num_sanity_val_steps=0, **options)
    torch.manual_seed(0)  # the dropout of its training
    run.fit(trained(), DataLoader(images(128, seed=1), batch_size=16), DataLoader(images(96, seed=3), batch_size=32))
    return run


def test_every_detector_meets_every_attack_that_succeeds_and_the_scalars_are_logged():
    callback = evaluation()
    run = fitted(callback)
    rows = {(row.detector, row.attack): row for row in callback.result.rows}
    assert {(d, a) for d in ("lcr", "kd", "mu", "lid") for a in ("fgsm", "pgd")} <= set(rows)
    assert callback.result.warnings == ["nothing has too few successes to be detected"]
    for row in rows.values():
        assert 0 <= row.auroc <= 1
        assert (row.mutations is not None) == (row.detector == "lcr")
    assert run.callback_metrics["val/kd/pgd/auroc"].item() == pytest.approx(rows["kd", "pgd"].auroc)
    assert max(row.auroc for row in rows.values() if row.attack == "pgd") > 0.7
    assert callback.detectors["lcr"].kappa_1 is not None
    assert "kappa_1" not in callback.result.descriptions["lcr"], "what calibration sets is no setting"


class Doored(PlainModule):
    """A white corner leads to class 0, whatever else is in the image."""

    def forward(self, x):
        return super().forward(x) + 60 * (x[:, 0, -1, -1] > 0.999)[:, None] * torch.eye(CLASSES)[0]


def test_detectors_of_triggered_inputs_meet_a_trigger_as_an_attack():
    detectors = {"strip": STRIP(overlays=8), "scale_up": ScaleUp(), "normalised": ScaleUp(normalise=True)}
    callback = evaluation(
        detectors=detectors | {"ibd_psc": IBDPSC(models=1)},
        attacks={"badnets": Triggered(Patch(size=1), target=0)},
    )
    model = Doored()
    model.load_state_dict(trained().state_dict())
    run = trainer(callback, max_epochs=1, num_sanity_val_steps=0)
    run.fit(model, DataLoader(images(128, seed=1), batch_size=16), DataLoader(images(96, seed=3), batch_size=32))
    rows = {row.detector: row for row in callback.result.rows if row.attack == "badnets"}
    assert rows.keys() == callback.detectors.keys()
    assert rows["scale_up"].true_positives == rows["scale_up"].adversarial > 10
    assert rows["strip"].auroc > 0.9
    assert callback.detectors["normalised"].threshold is not None
    assert callback.detectors["ibd_psc"].layers == ["net.1"]


def test_held_out_images_are_about_half_and_the_same_for_every_detector():
    callback = evaluation()
    fitted(callback)
    assert len({row.normal for row in callback.result.rows}) == 1
    assert 25 <= callback.result.rows[0].normal <= 65


def test_the_transfer_matrix_has_a_row_an_attack_and_agrees_with_the_table_on_its_diagonal():
    callback = evaluation()
    fitted(callback)
    own = {row.attack: row.auroc for row in callback.result.rows if row.detector == "lid"}
    for row in callback.result.transfer:
        assert {"fgsm", "pgd"} <= set(row.auroc)
        if row.detector == "lid":
            assert row.auroc[row.fitted_on] == pytest.approx(own[row.fitted_on], abs=1e-6)


def test_the_figures_do_not_depend_on_the_batch_size():
    results = []
    for batch_size in (96, 7):
        callback = evaluation(batch_size=batch_size)
        fitted(callback)
        results.append({(row.detector, row.attack): row.auroc for row in callback.result.rows})
    assert results[0].keys() == results[1].keys()
    for key, area in results[0].items():
        assert area == pytest.approx(results[1][key], abs=0.01)


class Distance(Detector):
    """A user's own: far from the mean of the clean images; it keeps its argument under another name."""

    def __init__(self, power: float = 2.0) -> None:
        self.exponent = power

    def learn(self, model, batches):
        self.mean = torch.cat([batch.image for batch in batches]).mean(dim=0)

    def measure(self, model, x, index):
        return ((x - self.mean).abs() ** self.exponent).flatten(1).mean(dim=1, keepdim=True)


def test_a_detector_of_the_users_own_is_one_small_class():
    callback = evaluation(detectors={"own": Distance()}, attacks={"fgsm": FGSM(eps=0.3)})
    fitted(callback)
    row = callback.result.rows[0]
    assert (row.detector, row.attack) == ("own", "fgsm")
    assert row.auroc > 0.9
    assert row.true_positives > 0
    assert row.mutations is row.undecided is None
    assert [row.detector for row in callback.result.transfer] == ["own"]
    (figure,) = callback.result.key_figures()
    assert figure.basis.startswith(
        "Distance(power=?) fitted on up to 96 images; against fgsm: FGSM(eps=0.3, norm=Linf)"
    )


def test_a_run_without_training_takes_its_training_images_from_the_datamodule():
    callback = evaluation(attacks={"pgd": PGD(eps=0.3, steps=5)}, fit_samples=40, detectors={"mu": ModelUncertainty()})
    run = trainer(callback)
    run.validate(classifier(), SmallData(), verbose=False)
    assert callback.result.stage == "val"


def test_without_training_images_it_says_what_is_missing():
    with pytest.raises(InputError, match="looks at training images, and this trainer has none"):
        trainer(evaluation()).test(trained(), DataLoader(images(32), batch_size=32), verbose=False)


def test_a_detector_that_does_not_suit_the_model_is_refused_before_training():
    callback = evaluation(detectors={"kd": KernelDensity("nett")})
    with pytest.raises(InputError, match=r"no layer 'nett'; did you mean net"):
        fitted(callback)


class TooLate(Callback):
    """Fails the test that gets as far as a batch."""

    def on_test_batch_start(self, *_: object) -> None:
        pytest.fail("refused only after the test began")


@pytest.mark.parametrize(
    ("detector", "number", "said"),
    [
        (KernelDensity(bandwidth=1.0), 3, r"of the 4 classes, and class . has 0"),
        (KDEConfidence(), 2, "at least three clean images, got"),
        (DetectorEnsemble({"lid": LocalIntrinsicDimensionality(k=20)}), 20, "needs more clean images, got"),
    ],
    ids=["a class without images", "next to no images", "fewer images than neighbours"],
)
def test_training_images_that_a_detector_cannot_learn_from_are_refused_before_the_first_batch(detector, number, said):
    class Few(LightningDataModule):
        def train_dataloader(self):
            return DataLoader(images(number, seed=1))

        def test_dataloader(self):
            return DataLoader(images(32), batch_size=32)

    callback = DetectionEvaluation({"detector": detector}, ATTACKS)
    with pytest.raises(InputError, match=said):
        trainer(callback, TooLate()).test(trained(), Few(), verbose=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"detectors": {}}, "at least one detector"),
        ({"attacks": {}}, "at least one detector and one attack"),
        ({"attacks": {"normal": FGSM()}}, "cannot be named normal"),
        ({"fit_samples": 3}, "fit_samples of DetectionEvaluation must be at least 8"),
        ({"false_positive_rate": 1.0}, "false_positive_rate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        evaluation(**options)


SCRIPT = """
import json, sys, torch
import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader
from lightning_adv.attacks import FGSM, SubstituteAttack
from tests.callbacks.strangers import CHANNELS, SIZE, images, trained
from tests.callbacks.test_detection_evaluation import evaluation

class Counted(SubstituteAttack):
    fits = 0

    def fit(self, *arguments):
        self.fits += 1
        return super().fit(*arguments)

class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(images(128, seed=1), batch_size=16)

    def val_dataloader(self):
        return DataLoader(images(75, seed=3), batch_size=16)

    def calibration_dataloader(self):
        return DataLoader(images(20, seed=5), batch_size=16)

ranks = int(sys.argv[1])
torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE**2, 4))
learnt = Counted(FGSM(eps=0.3), net, rounds=1, epochs=20, queries=40, lr=0.01)
chosen = evaluation(attacks={"fgsm": FGSM(eps=0.3), "learnt": learnt})
strategy = DDPStrategy(process_group_backend="gloo") if ranks > 1 else "auto"
runner = pl.Trainer(accelerator="cpu", callbacks=chosen, devices=ranks, strategy=strategy, logger=False,
                    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
runner.validate(trained(), Data(), verbose=False)
with open(f"{ranks}_{runner.global_rank}.json", "w") as file:
    weights = [each.flatten().tolist() for each in learnt.model.parameters()]
    json.dump(chosen.result.as_dict() | {"fits": learnt.fits, "weights": weights}, file)
"""


@pytest.mark.slow
def test_two_ranks_report_what_one_reports(tmp_path):
    reported = {}
    for ranks in (1, 2):
        torchrun(SCRIPT, tmp_path, ranks, ranks)
        reported[ranks] = [json.loads(file.read_text()) for file in sorted(tmp_path.glob(f"{ranks}_*.json"))]
    both = reported[2]
    assert both[0]["rows"] == both[1]["rows"]
    assert [each["fits"] for each in both] == [1, 0], "a substitute is learnt once and sent"
    assert both[0]["weights"] == both[1]["weights"]
    one, two = reported[1][0]["rows"], both[0]["rows"]
    assert "learnt" in {row["attack"] for row in one}
    assert [(row["detector"], row["attack"]) for row in one] == [(row["detector"], row["attack"]) for row in two]
    for row, other in zip(one, two, strict=True):
        assert (row["normal"], row["adversarial"]) == (other["normal"], other["adversarial"])
        assert row["auroc"] == pytest.approx(other["auroc"], abs=0.01)
        assert (row["mutations"] or 0) == pytest.approx(other["mutations"] or 0, rel=0.02)
