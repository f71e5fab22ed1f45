"""Photographs of attacked images are counted as by hand, whatever the batches."""

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_adv.attacks import BIM, EOT, FGSM, PGD, DeepFool, PhysicalWorld
from lightning_adv.callbacks import PhysicalEvaluation
from lightning_adv.errors import InputError
from lightning_adv.metrics import destruction, outcomes, similar_classes, top_k_errors
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import PlainModule, images, trained, trainer

COUNT = 45
WORLD = PhysicalWorld(resolution=1, blur=0.3)


def evaluation(**options: object) -> PhysicalEvaluation:
    attacks = {"bim": BIM(0.1, steps=3), "eot": EOT(PGD(0.1, steps=2), samples=2), "near": DeepFool(steps=5)}
    return PhysicalEvaluation(**({"attacks": attacks, "eps": [0.1, 0.05], "world": WORLD, "examples": 3} | options))


def validated(callback: PhysicalEvaluation, batch_size: int = 16):
    run = trainer(callback)
    run.validate(trained(), DataLoader(images(COUNT, seed=3), batch_size=batch_size), verbose=False)
    return callback.result


def test_the_counts_are_those_of_a_hand_written_loop():
    found = validated(evaluation())
    model, (x, y), index = trained().eval(), images(COUNT, seed=3).tensors, torch.arange(COUNT)
    attack = BIM(0.1, steps=3).scaled(0.5)
    crafted = attack(model, x, y, index=index)
    with torch.no_grad():
        clean, attacked, photo, plain = (model(each) for each in (x, crafted, WORLD(crafted, index), WORLD(x, index)))
    row = found.of("bim")[0]
    assert (row.eps, row.aware) == (pytest.approx(0.05), False)
    assert row.destruction == destruction(clean, attacked, photo, y)
    assert row.destruction.fooled > row.destruction.destroyed > 0
    assert row.outcomes == outcomes(clean, attacked, y, similar_classes(clean, y))
    assert row.photographed_correct == COUNT - top_k_errors(photo, y, 1)
    assert row.top_5 == (COUNT, COUNT)  # of four classes all are
    assert found.clean_correct == COUNT - top_k_errors(clean, y, 1)
    assert found.photographed_correct == COUNT - top_k_errors(plain, y, 1)


def test_every_budget_and_an_attack_without_one_have_a_row():
    found = validated(evaluation())
    rows = [(row.attack, row.eps, row.aware) for row in found.rows]
    eot = [("eot", pytest.approx(0.05), True), ("eot", pytest.approx(0.1), True)]
    assert rows == [("bim", 0.05, False), ("bim", 0.1, False), *eot, ("near", None, False)]


def test_an_attack_that_knows_of_the_camera_survives_it_best():
    attacks = {"pgd": PGD(0.12, steps=8), "eot": EOT(PGD(0.12, steps=8), samples=8)}
    found = validated(evaluation(attacks=attacks, eps=[]))
    blind, aware = (found.of(name)[0] for name in attacks)
    assert aware.photographed_correct < blind.photographed_correct


def test_the_figures_do_not_depend_on_the_batch_size():
    assert validated(evaluation(), 7).as_dict() == validated(evaluation()).as_dict()


def test_scalars_are_logged_and_pictures_drawn():
    callback = evaluation()
    run = trainer(callback)
    run.validate(trained(), DataLoader(images(COUNT, seed=3), batch_size=16), verbose=False)
    rate = callback.result.of("bim")[-1].destruction.rate
    assert run.callback_metrics["val/physical/bim/eps_0.1/destruction_rate"].item() == pytest.approx(rate)
    strip = callback.result.strips[0]
    titles = ["clean", "bim,\neps 0.1", "eot,\neps 0.1", "near"]
    assert [row.name for row in strip.rows] == [name for each in titles for name in (each, f"{each}:\nphotograph")]
    assert all(row.images.shape[0] == row.predictions.shape[0] == len(strip.labels) == 3 for row in strip.rows)
    for picture in callback.result.pictures():
        assert picture.draw().axes


def test_families_are_names_of_the_datamodules_classes():
    callback = evaluation(families=[["a", "b", "c", "d"]])
    trainer(callback).validate(classifier(), datamodule=SmallData(), verbose=False)
    assert len(callback.result.related) == 6
    assert all(row.outcomes.true == row.outcomes.refocused == 0 for row in callback.result.rows)


def test_an_unknown_family_is_refused_before_the_first_step():
    run = trainer(evaluation(families=[["0", "cat"]]), max_epochs=1, num_sanity_val_steps=0)
    loader = DataLoader(images(16), batch_size=8)
    with pytest.raises(InputError, match="there is no class cat; the classes are 0, 1, 2, 3"):
        run.fit(PlainModule(), loader, loader)
    assert run.global_step == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attacks": {}}, "must be named"),
        ({"attacks": {"a/b": FGSM()}}, "without a slash"),
        ({"attacks": {"near": DeepFool()}}, "no attack of PhysicalEvaluation has a budget"),
        ({"eps": [0]}, "starts above 0"),
        ({"eps": [8]}, "did you mean 8/255"),
        ({"examples": -1}, "examples of PhysicalEvaluation must be at least 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        evaluation(**arguments)
