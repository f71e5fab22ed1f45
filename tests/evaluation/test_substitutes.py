"""A substitute attack in a configuration learns from the model that is evaluated, from images nobody is judged on."""

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.attacks import FGSM, SubstituteAttack
from lightning_adv.callbacks import AttackEvaluation, DetectionEvaluation
from lightning_adv.detectors import KDEConfidence
from lightning_adv.errors import InputError
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import PlainModule, images, trainer


def attack(**options: object) -> SubstituteAttack:
    return SubstituteAttack(FGSM(eps=0.2), **({"rounds": 2, "epochs": 3, "queries": 30} | options))


class Watched(SubstituteAttack):
    """Notes what the oracle is asked."""

    def _labelled(self, oracle: object, x: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        self.asked = [*getattr(self, "asked", []), x]
        return super()._labelled(oracle, x, num_classes)


def test_the_substitute_begins_with_calibration_images_and_keeps_its_budget():
    substitute = Watched(FGSM(eps=0.2), rounds=2, epochs=3, queries=30)
    callback, data = AttackEvaluation({"substitute": substitute}), SmallData()
    trainer(callback).validate(classifier(), datamodule=data, verbose=False)
    own = data.datasets["calibration"]
    assert torch.equal(substitute.asked[0].sort(dim=0).values, own[range(len(own))].image.sort(dim=0).values)
    assert sum(map(len, substitute.asked)) == substitute.history[-1].queries <= 30
    (row,) = callback.result.attacks
    assert row.name == "substitute"
    assert row.eps == pytest.approx(0.2)


def test_it_is_learnt_anew_from_the_model_of_every_epoch_and_training_goes_on_as_without():
    def weights(*callbacks):
        model = classifier()
        trainer(*callbacks, max_epochs=2, num_sanity_val_steps=0).fit(model, datamodule=SmallData())
        return model.state_dict()

    substitute = Watched(FGSM(eps=0.2), rounds=1, epochs=1, queries=30)
    without, evaluated = weights(), weights(AttackEvaluation({"substitute": substitute}))
    assert all(torch.equal(without[key], evaluated[key]) for key in without)
    assert len(substitute.asked) == 4  # a seed set and one round in each of two epochs


def test_one_that_was_fitted_before_is_left_alone():
    own = attack().fit(lambda x: (x.mean(dim=(1, 2, 3)) > 0.3).long(), images(8).tensors[0], num_classes=4)
    before = own.model
    trainer(AttackEvaluation({"own": own})).validate(PlainModule(), DataLoader(images(16), batch_size=8), verbose=False)
    assert own.model is before


def test_a_loader_without_images_of_the_attacker_is_refused_before_training():
    run = trainer(AttackEvaluation({"substitute": attack()}), max_epochs=1, num_sanity_val_steps=0)
    loader = DataLoader(images(16), batch_size=8)
    with pytest.raises(InputError, match="begins with images of the attacker's own"):
        run.fit(PlainModule(), loader, loader)
    assert run.global_step == 0


def test_detectors_are_judged_on_what_a_substitute_finds():
    callback = DetectionEvaluation({"kde": KDEConfidence()}, {"substitute": attack(queries=40)}, fit_samples=40)
    run = trainer(callback, max_epochs=1, num_sanity_val_steps=0)
    run.fit(classifier(), datamodule=SmallData())
    assert {row.attack for row in callback.result.rows} >= {"substitute"}
