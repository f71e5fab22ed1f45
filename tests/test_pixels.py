"""One tolerance wherever pixels are checked: rounding is forgiven, and nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_adv.attacks import FGSM, PhysicalWorld, SubstituteAttack
from lightning_adv.backdoors import MaskedPattern, Patch
from lightning_adv.data.poisoned import _first_image
from lightning_adv.detectors.detector import checked_index
from lightning_adv.errors import InputError
from lightning_adv.evaluation.verdict_journal import checksums
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.pixels import check_pixels, digests
from lightning_adv.purifiers import BitDepth, content_index
from lightning_adv.victims import CountedOracle, NearestNeighboursVictim

LABELS = torch.arange(8) % 2


def small_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


TAKES_BATCHES: dict[str, Callable[[Tensor], object]] = {
    "attack": lambda x: FGSM()(small_model(), x, LABELS),
    "camera": lambda x: PhysicalWorld(quality=None)(x),
    "detector": lambda x: checked_index(x, None),
    "purifier": lambda x: BitDepth(3)(x),
    "substitute": lambda x: SubstituteAttack(FGSM(), small_model(), rounds=0, epochs=1).fit(small_model(), x, 2),
    "trigger": lambda x: Patch(size=1)(x),
    "victim": lambda x: NearestNeighboursVictim().fit(x, LABELS),
}


@pytest.mark.parametrize("who", TAKES_BATCHES)
@pytest.mark.parametrize(
    "wrong", [torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.rand(8, 4, 4)], ids=["bytes", "no channels"]
)
def test_what_is_no_batch_of_float_images_is_refused_in_the_same_words(who, wrong):
    with pytest.raises(InputError, match=r"must be a float tensor N x C x H x W, got .*uint8 is divided by 255 first"):
        TAKES_BATCHES[who](wrong)


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


def queries_for(x: Tensor) -> list[int]:
    """How many have been paid after each image, of which the first stands twice."""
    oracle = CountedOracle(lambda images: torch.zeros(len(images), dtype=torch.int64))
    return [(oracle(image[None]), oracle.spent)[1] for image in x]


KEYS: dict[str, Callable[[Tensor], list]] = {
    "digests": digests,
    "noise of a purifier": lambda x: content_index(x).tolist(),
    "verdicts": lambda x: checksums(x, torch.zeros(len(x), dtype=torch.int64)),
    "queries": queries_for,
}


@pytest.mark.parametrize("who", KEYS)
def test_equal_images_have_one_key_whatever_the_sign_of_their_zeros(who):
    x = torch.tensor([0.0, 0.5, 1.0]).expand(3, 1, 2, 3).clone()
    x[1] = torch.where(x[1] == 0, -x[1], x[1])
    x[2, 0, 1, 2] = 1 - 2**-20
    first, equal, other = KEYS[who](x)
    assert first == equal != other
    assert KEYS[who](x.double().flip(3).flip(3)) == [first, equal, other]


def test_the_key_of_an_image_is_what_logs_of_paid_answers_were_written_with():
    assert digests(torch.tensor([[[[0.25, 0.5], [0.75, 1.0]]]])) == ["a73f9ab17ba28ec07b65dfea9b8c1282"]
    assert digests(torch.zeros(1, 1, 2, 3)) != digests(torch.zeros(1, 1, 3, 2))
