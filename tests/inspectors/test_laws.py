"""What holds for every inspector: suspect and process are left bit for bit as they were, also after an error."""

import copy
import inspect

import pytest
import torch
from torch import nn

import lightning_adv.inspectors as inspectors
from lightning_adv.inspectors import BTIDBF, MMBD, DeepInspect, Inspector, NeuralCleanse, Repeated
from tests.inspectors.problems import block_images

CLASSES = 5
IMAGES = block_images((1, 9, 9), CLASSES, 20)
CLEANSE = NeuralCleanse(steps=3, batch_size=10, images_per_step=10)
SMALL = {
    "BTIDBF": BTIDBF(steps=2, mask_steps=2, width=2),
    "DeepInspect": DeepInspect(steps=2, images_per_step=10, batch_size=10, hidden=4, draws=2),
    "MMBD": MMBD(starts=2, steps=2),
    "NeuralCleanse": CLEANSE,
    "Repeated": Repeated(CLEANSE, searches=2),
}
every_inspector = pytest.mark.parametrize("name", SMALL)


class Suspicious(nn.Module):
    """Normalisation, dropout, a frozen bias and a linear last layer; breaks after so many forwards."""

    def __init__(self, forwards: int = 10**6) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
        self.last = nn.Linear(3 * 49, CLASSES)
        self.last.bias.requires_grad_(False)
        self.body[3].eval()
        self.left = forwards

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("broken")
        return self.last(self.body(x))


def state(model: nn.Module) -> list:
    modules = [
        (module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
    ]
    weights = [(weight.requires_grad, weight.grad is None) for weight in model.parameters()]
    return [modules, weights, torch.get_rng_state().tolist()]


def test_every_inspector_is_asked():
    public = [getattr(inspectors, name) for name in inspectors.__all__]
    kinds = {each.__name__ for each in public if inspect.isclass(each) and issubclass(each, Inspector)}
    assert kinds - {"Inspector"} == SMALL.keys()


@every_inspector
@pytest.mark.parametrize("forwards", [10**6, 4], ids=["whole", "broken"])
def test_the_suspect_is_left_bit_for_bit(name, forwards):
    model = Suspicious(forwards)
    before, kept = state(model), copy.deepcopy(model.state_dict())
    if forwards == 4:
        with pytest.raises(RuntimeError, match="broken"):
            SMALL[name](model, [IMAGES])
    else:
        SMALL[name](model, [IMAGES])
    assert state(model) == before
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())


@every_inspector
def test_the_same_seed_gives_the_same_report_and_images_are_not_changed(name):
    images = tuple(each.clone() for each in IMAGES)
    model = Suspicious()
    one, other = (SMALL[name](model, [images]) for _ in range(2))
    assert one.norms == pytest.approx(other.norms, nan_ok=True)
    assert all(map(torch.equal, images, IMAGES))
