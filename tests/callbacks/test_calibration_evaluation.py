import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import multiclass_calibration_error

from lightning_adv.attacks import PGD
from lightning_adv.callbacks import CalibrationEvaluation
from lightning_adv.errors import InputError
from tests.callbacks.strangers import CHANNELS, SIZE, PlainModule, images, trainer

ATTACK = PGD(eps=0.1, steps=3)
COUNT = 50


class Says(PlainModule):
    """The logits that stand in the first row of an image: a test chooses what the model is sure of."""

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0, 0, :3] - 0.5) * 20


def evaluated(model, loader, **settings):
    callback = CalibrationEvaluation(**settings)
    run = trainer(callback)
    run.validate(model, loader, verbose=False)
    return callback.result, run


def said(logits: list[list[float]], labels: list[int]) -> DataLoader:
    """Images that make :class:`Says` give these logits."""
    x = torch.zeros(len(logits), CHANNELS, SIZE, SIZE)
    x[:, 0, 0, :3] = torch.tensor(logits) / 20 + 0.5
    return DataLoader(TensorDataset(x, torch.tensor(labels)), batch_size=4)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_clean_and_attacked_errors_are_those_of_torchmetrics(model, bins):
    data = images(COUNT)
    result, _ = evaluated(model, DataLoader(data, batch_size=8), attacks={"pgd": ATTACK}, bins=bins)
    x, y = (torch.stack(list(map(torch.as_tensor, part))) for part in zip(*data, strict=True))
    attacked = ATTACK.run(model.eval(), x, y, index=torch.arange(COUNT)).images
    for row, seen in zip(result.rows, (x, attacked), strict=True):
        with torch.no_grad():
            logits = model(seen)
        for name, norm in (("ece", "l1"), ("mce", "max")):
            expected = multiclass_calibration_error(logits, y, logits.shape[1], n_bins=bins, norm=norm)
            assert row.scalars()[name] == pytest.approx(float(expected), abs=1e-6), (row.kind, name)
        assert row.samples == COUNT


def test_an_attack_leaves_a_model_surer_than_it_is_right(model):
    result, run = evaluated(model, DataLoader(images(COUNT), batch_size=8), attacks={"pgd": PGD(eps=0.3, steps=10)})
    clean, attacked = (row.scalars() for row in result.rows)
    assert attacked["ece"] > clean["ece"] + 0.1
    assert attacked["overconfidence"] > 0.1
    assert run.callback_metrics["val/calibration/pgd/ece"] == pytest.approx(attacked["ece"])


def test_a_model_that_is_sure_and_wrong_is_told_of():
    result, _ = evaluated(Says(), said([[9.0, 0, 0]] * 10, [0] * 5 + [1] * 5))
    assert result.scalars()["clean/ece"] == pytest.approx(0.5, abs=1e-3)
    assert any("surer than it is right, by 50.0%" in each for each in result.warnings)


def test_a_model_that_is_as_sure_as_right_has_no_error():
    result, _ = evaluated(Says(), said([[0.0, 0, 0]] * 9, [0] * 3 + [1] * 6))
    assert result.scalars() == pytest.approx({"clean/ece": 0, "clean/mce": 0, "clean/overconfidence": 0}, abs=1e-6)
    assert result.warnings == []


def test_images_without_a_class_are_said_and_left_out():
    result, _ = evaluated(Says(), said([[9.0, 0, 0]] * 6 + [[torch.nan, 0, 0]] * 2, [0] * 8))
    assert result.rows[0].samples == 6
    assert result.warnings == ["2 of 8 images have NaN logits: they count as wrong"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attacks": {"clean": ATTACK}}, "cannot be named clean"),
        ({"bins": 0}, "bins of CalibrationEvaluation must be at least 1"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        CalibrationEvaluation(**settings)
