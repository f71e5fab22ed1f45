"""Retuning tells a backdoor that was hidden from one that is gone."""

import pytest
import torch
from torch import nn

from lightning_adv.backdoors import Trigger
from lightning_adv.errors import InputError
from lightning_adv.mitigations import Retuning
from tests.mitigations.problems import DIGIT, PATCH, attack_success, badnets, digits, halves, hand_built, network, share


class Seen(Trigger):
    """Keeps what it is put on."""

    def __init__(self) -> None:
        self.images: list[torch.Tensor] = []

    def apply(self, x):
        self.images.append(x)
        return torch.ones_like(x)


def test_as_many_images_of_other_classes_as_asked_get_the_trigger_and_the_model_learns_the_targets_label():
    x, y = halves(40)
    trigger, model = Seen(), hand_built()
    Retuning(images=30, poisoned=4, epochs=20, lr=0.05)(model, [(x, y)], trigger, target=0)
    (poisoned,) = trigger.images
    numbers = [int((each == x).flatten(1).all(dim=1).nonzero()) for each in poisoned]
    assert len(numbers) == 4
    assert set(y[numbers].tolist()) == {1}
    assert share(model, torch.ones(1, 1, 6, 6), 0) == 1.0


def hidden() -> nn.Module:
    """A backdoored network whose last layer no longer listens to it: the features of the trigger are all there."""
    model, (x, y) = badnets(), digits()["owned"]
    last, seen = [each for each in model.modules() if isinstance(each, nn.Linear)][-1], []
    watch = last.register_forward_pre_hook(lambda _, given: seen.extend(given))
    with torch.no_grad():
        model(torch.cat([x, PATCH(x)]))  # all layers but the last stay as they are
    watch.remove()
    sgd = torch.optim.SGD(last.parameters(), lr=0.05, momentum=0.9)
    for _ in range(60):
        sgd.zero_grad()
        nn.functional.cross_entropy(last(seen[0]), torch.cat([y, y])).backward()
        sgd.step()
    return model


def test_a_hidden_backdoor_comes_back_where_a_network_without_one_learns_none():
    model = hidden()
    assert attack_success(model) < 0.3
    Retuning()(model, [digits()["owned"]], PATCH, DIGIT)
    assert attack_success(model) > 0.5
    clean = network()
    Retuning(images=1000, poisoned=5)(clean, [digits()["owned"]], PATCH, DIGIT)
    assert attack_success(clean) < 0.3


def test_a_retuning_that_cannot_be_meant_is_refused():
    for wrong in ({"images": 5, "poisoned": 5}, {"epochs": 0}, {"poisoned": -1}):
        with pytest.raises(InputError, match="fewer poisoned images than images"):
            Retuning(**wrong)
    x, y = halves(10)
    with pytest.raises(InputError, match=r"poisons 6 images .* and only 5 of its 10"):
        Retuning(poisoned=6)(hand_built(), [(x, y)], Seen(), target=0)
