"""One tolerance wherever pixels are checked: rounding is forgiven, and nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_adv.attacks import FGSM, SubstituteAttack
from lightning_adv.backdoors import MaskedPattern
from lightning_adv.data.poisoned import _first_image
from lightning_adv.detectors.detector import checked_index
from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.pixels import check_pixels
from lightning_adv.victims import NearestNeighboursVictim

LABELS = torch.arange(8) % 2


def small_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


TAKES_IMAGES: dict[str, Callable[[Tensor], object]] = {
    "attack": lambda x: FGSM()(small_model(), x, LABELS),
    "attack, run": lambda x: FGSM().run(small_model(), x, LABELS),
    "substitute": lambda x: SubstituteAttack(FGSM(), small_model(), rounds=0, epochs=1).fit(small_model(), x, 2),
    "detector": lambda x: checked_index(x, None),
    "inspector": lambda x: CleanImages.of(x, small_model()),
    "victim": lambda x: NearestNeighboursVictim().fit(x, LABELS),
    "poisoner": lambda x: _first_image(TensorDataset(x[x.flatten(1).amax(dim=1).argsort(descending=True)], LABELS)),
    "trigger": lambda x: MaskedPattern(mask=torch.ones(4, 4), pattern=x[int(x.flatten(1).amax(dim=1).argmax())]),
}


def images_up_to(highest: float) -> Tensor:
    x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x[3, 0, 1, 2] = highest
    return x


@pytest.mark.parametrize("who", TAKES_IMAGES)
def test_rounding_is_forgiven_and_nothing_else(who):
    TAKES_IMAGES[who](images_up_to(1 + 1.2e-7))
    for highest in (1 + 1e-5, 255.0, float("nan")):
        with pytest.raises(InputError, match=r"in \[0, 1\]"):
            TAKES_IMAGES[who](images_up_to(highest))


@pytest.mark.parametrize(
    ("pixel", "message"),
    [
        (-0.5, r"images must lie in \[0, 1\], got \[-0.5, 1\]: divide"),
        (1.00001, r"got \[0, 1.00001\]: divide"),
        (-2e-6, r"got \[-2e-06, 1\]: divide"),
        (float("inf"), r"got \[0, inf\]: divide"),
        (float("nan"), r"got \[nan, nan\]: they contain NaN"),
    ],
)
def test_the_message_shows_what_is_outside(pixel, message):
    with pytest.raises(InputError, match=message):
        check_pixels(torch.tensor([0.0, 1.0, pixel]), "divide")
