"""Every evaluation of a trainer on every kind of model: the right figure, a warning in the report, or one sentence."""

import math
import warnings
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.attacks import PGD, Square
from lightning_adv.callbacks import DetectionEvaluation
from lightning_adv.detectors import Detector
from lightning_adv.errors import InputError
from lightning_adv.modules import ClassifierModule
from lightning_adv.reports.storage import as_json, section_document
from tests.callbacks.evaluations import COUNT, EVALUATIONS, Data, Module, X, Y
from tests.callbacks.strangers import trainer
from tests.wild.models import (
    CLASSES,
    REFUSED,
    Dropping,
    InPlace,
    Noisy,
    Probabilities,
    SometimesNaN,
    Wrapped,
    breaks,
    half,
    images,
    mean_verdict,
)

NAN = f"{int(breaks(X).sum())} of {COUNT} images have NaN logits: they count as wrong"
every_evaluation = pytest.mark.parametrize("name", EVALUATIONS)


def result_of(name: str, model: nn.Module, tmp_path, idle: bool = False) -> object:
    """What the evaluation leaves; ``idle`` with attacks that do nothing."""
    chosen = EVALUATIONS[name].idle() if idle else EVALUATIONS[name].make()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*num_workers|.*does not have many workers|.*shuffle.*")
        trainer(chosen, folder=tmp_path).test(Module(model), datamodule=Data(), verbose=False)
    return chosen.result


@every_evaluation
def test_a_model_that_works_in_place_is_evaluated_as_any_other(name, tmp_path):
    expected, found = (result_of(name, model, tmp_path).scalars() for model in (Wrapped(), InPlace()))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@every_evaluation
def test_images_that_break_the_model_count_as_wrong_and_are_said(name, tmp_path):
    result = result_of(name, SometimesNaN(), tmp_path)
    as_json(section_document(result, ()))
    for picture in result.pictures():
        picture.draw()
    assert all(math.isfinite(value) for value in result.scalars().values())
    # These look for what the model says, or at its features, and not whether it is right; or at images of their own.
    if name not in ("inspection", "fooling", "generated", "scan"):
        assert any(NAN in each for each in result.warnings), result.warnings
    assert not any("gradient" in each for each in result.warnings)
    sound = 1 - int(breaks(X).sum()) / COUNT
    for key in ("clean_accuracy", "clean_accuracy_before"):
        assert result.scalars().get(key, sound) == pytest.approx(sound)


class Numbers(Detector):
    """Shows, by its scores, which images it was shown."""

    def measure(self, model: nn.Module, x: Tensor, index: Tensor) -> Tensor:
        return index[:, None].double()


@pytest.mark.filterwarnings("ignore:the model answers differently")
@pytest.mark.parametrize("model", [Noisy, Dropping], ids=lambda model: model.__name__)
def test_no_image_is_normal_wrong_or_adversarial_for_a_detector_by_luck(model, tmp_path):
    x = images(96)
    said, clear = mean_verdict(model(), x)
    y = torch.where(torch.arange(len(x)) % 4 == 0, (said + 1) % CLASSES, said)
    attacks = {"pgd": PGD(eps=1e-6, steps=3, restarts=3), "square": Square(eps=1e-6, queries=10)}
    chosen = DetectionEvaluation({"numbers": Numbers()}, attacks)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*num_workers|.*does not have many workers|.*shuffle.*")
        trainer(chosen, folder=tmp_path).test(Module(model()), datamodule=Data(x, y), verbose=False)
    found = chosen.result.scores["numbers"]
    assert found.keys() == {"normal", "wrongly_labelled"}
    for kind, right in (("normal", True), ("wrongly_labelled", False)):
        seen = torch.tensor(found[kind]).long()
        assert ((said == y) == right)[seen[clear[seen]]].all(), kind
    assert {"pgd has too few successes to be detected", "square has too few successes to be detected"} <= set(
        chosen.result.warnings
    )
    assert any("over 20 draws that no attack has seen" in each for each in chosen.result.warnings)


def test_an_image_without_a_class_is_not_led_to_class_0(tmp_path):
    scalars = result_of("backdoor", SometimesNaN(), tmp_path).scalars()
    expected = result_of("backdoor", Wrapped(), tmp_path).scalars()
    assert scalars["target_rate_without_trigger"] <= expected["target_rate_without_trigger"]


@pytest.mark.parametrize("name", [name for name, case in EVALUATIONS.items() if case.idle])
@pytest.mark.parametrize("model", [Noisy, Dropping], ids=lambda model: model.__name__)
@pytest.mark.filterwarnings("ignore:the model answers differently")
def test_attacks_that_do_nothing_have_no_luck_with_a_randomised_model_and_the_report_says_who_judged(
    name, model, tmp_path
):
    result = result_of(name, model(), tmp_path, idle=True)
    assert any("answers differently to the same images" in each for each in result.warnings)
    for clean, attacked in EVALUATIONS[name].counts(result):
        assert attacked == clean


@every_evaluation
def test_a_model_of_half_precision_is_evaluated_as_one_of_float32(name, tmp_path):
    expected, found = (result_of(name, model, tmp_path).scalars() for model in (Wrapped(), half(Wrapped())))
    assert found == pytest.approx(expected, rel=0.1, abs=1.01 / 12)  # one image of a half


@every_evaluation
@pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.__name__)
def test_a_model_without_logits_is_told_so(name, model, tmp_path):
    of_an_oracle = "|as many integer labels" if name == "detection" else ""
    with pytest.raises(InputError, match=REFUSED[model] + of_an_oracle):
        result_of(name, model(), tmp_path)


@every_evaluation
def test_probabilities_are_said_in_the_report(name, tmp_path):
    with pytest.warns(UserWarning, match="look like probabilities"):
        result = result_of(name, Probabilities(), tmp_path)
    assert any("look like probabilities" in each for each in result.warnings)


def test_a_classifier_module_does_not_take_nan_for_class_0(tmp_path):
    net = Wrapped().train()
    net.net[-1].bias.data[2] = torch.nan
    module = ClassifierModule(net, num_classes=CLASSES, optimizer=partial(torch.optim.SGD, lr=0.1))
    loader = DataLoader(TensorDataset(X, torch.zeros_like(Y)), batch_size=8)
    runner = trainer(folder=tmp_path, max_epochs=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers|.*logging interval")
        runner.fit(module, loader, loader)
    for key in ("train/clean_accuracy", "val/clean_accuracy"):
        assert runner.callback_metrics[key] == 0
