"""Models that have no train and eval mode, scripted, frozen or exported; and models without a gradient."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import (
    BPDA,
    FGSM,
    PGD,
    DeepFool,
    Square,
)
from lightning_adv.backdoors import universal_perturbation
from lightning_adv.errors import InputError
from lightning_adv.fooling import FoolingGradient
from lightning_adv.inspectors import NeuralCleanse

from .laws import every, run, stands_for_its_class
from .problems import Moody, images, smooth_cnn, traces

pytestmark = pytest.mark.filterwarnings(r"ignore:.*torch\.jit", r"ignore:.*(torch\.export|GraphModule)")


def plain() -> nn.Module:
    """BatchNorm and dropout in evaluation mode."""
    model = Moody().eval()
    model.forward = lambda x: model.head(model.features(x).flatten(1))
    return model


def network() -> nn.Sequential:
    model = plain()
    return nn.Sequential(model.features, nn.Flatten(), model.head).eval()


def exported(model: nn.Module) -> nn.Module:
    many = {"input": {0: torch.export.Dim("n", max=64)}}
    return torch.export.export(model, (images(),), dynamic_shapes=many).module()


KINDS = {
    "scripted": lambda model: torch.jit.script(model),
    "traced": lambda model: torch.jit.trace(model, images()),
    "frozen": lambda model: torch.jit.freeze(torch.jit.script(model)),
    "inside another": lambda model: nn.Sequential(nn.Dropout(), torch.jit.freeze(torch.jit.script(model))),
    "exported": exported,
    "export inside another": lambda model: nn.Sequential(nn.Dropout(), exported(model)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", [PGD(eps=0.03, steps=6), DeepFool(steps=3), Square(eps=0.03, queries=5)])
def test_a_model_without_modes_is_attacked_as_the_one_it_was_made_from(kind, attack):
    model, x = network(), images()
    y = model(x).argmax(dim=1)
    expected = attack.run(model, x, y)
    found = attack.run(KINDS[kind](model), x, y)
    assert torch.equal(found.success, expected.success)
    torch.testing.assert_close(found.images, expected.images, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_its_parts_that_have_modes_are_as_before(kind):
    model = KINDS[kind](network())
    modes = {name: getattr(module, "training", None) for name, module in model.named_modules()}
    weights = {name: weight.requires_grad for name, weight in model.named_parameters()}
    FGSM().run(model, images(), torch.zeros(6, dtype=torch.int64))
    assert {name: getattr(module, "training", None) for name, module in model.named_modules()} == modes
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == weights


def test_statistics_of_a_model_that_was_exported_in_training_are_put_back():
    net = network().train()
    net[0][6].eval()  # dropout
    model = exported(net)

    def moved_by(forward) -> bool:
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        forward()
        return not all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())

    assert not moved_by(lambda: FGSM().run(model, images(), torch.zeros(6, dtype=torch.int64)))
    assert moved_by(lambda: model(images()))


class Rounding(nn.Module):
    """Leaves the graph on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.net = smooth_cnn()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = (x * 8).round() / 8
            return self.net(x.double())


trainable = smooth_cnn()


def through_numpy(x: Tensor) -> Tensor:
    return trainable(torch.from_numpy(x.numpy()).double()).detach()


def of_trainable_weights(x: Tensor) -> Tensor:
    return trainable(x.detach().double())


BLIND = {"no_grad": Rounding(), "numpy": through_numpy, "detached": of_trainable_weights}
REMEDY = "gives no gradient with respect to the image .*: attack it with Square, .* or wrap the step .* in BPDA"


@pytest.mark.parametrize("kind", BLIND)
@every(lambda record: stands_for_its_class(record) and not record.attack.black_box)
def test_a_model_without_a_gradient_is_named_with_what_to_do(kind, name):
    x = images()
    y = trainable(x.double()).argmax(dim=1) if kind != "no_grad" else BLIND[kind](x).argmax(dim=1)
    with pytest.raises(InputError, match=REMEDY) as error:
        run(name, BLIND[kind], x, y)
    assert "\n" not in str(error.value)


def test_it_is_named_by_whatever_wants_a_gradient():
    model, x = Rounding(), images()
    y = model(x).argmax(dim=1)
    for wants in (
        lambda: PGD(steps=1).craft(model, x, y),
        lambda: PGD(steps=1)(model, x, y),
        lambda: universal_perturbation(model, x, 1),
        lambda: FoolingGradient(steps=1)(model, (2, 6, 6)),
        lambda: NeuralCleanse(steps=1)(model, [(x, torch.arange(6) % 3)]),
    ):
        with pytest.raises(InputError, match=REMEDY):
            wants()


@pytest.mark.parametrize("kind", BLIND)
def test_the_remedies_work(kind):
    x = images()
    y = trainable(x.double()).argmax(dim=1)
    model = BLIND[kind]
    assert Square(eps=0.5, queries=20).run(model, x, y).images.shape == x.shape
    opened = nn.Sequential(BPDA(lambda image: (image * 8).round() / 8), trainable.float())
    assert PGD(eps=0.5, steps=2).run(opened, x, y).images.shape == x.shape
    trainable.double()


def test_a_frozen_model_leaves_no_trace_on_what_is_around_it():
    model = Moody()
    around = nn.ModuleList([model, torch.jit.freeze(torch.jit.script(network()))])
    around.forward = lambda x: model(x) + around[1](x)
    before = traces(model)
    FGSM().run(around, images(), torch.zeros(6, dtype=torch.int64))
    assert traces(model) == before
