import kornia.augmentation
import pytest
import torch
import torch.nn.functional as F

from lightning_adv.data import Augmentation, CropFlip, Kornia
from lightning_adv.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def places(image, crop, padding, mode):
    """All (row, column, flipped) at which ``crop`` equals a window of the padded image to the bit."""
    padded = F.pad(image[None], (padding,) * 4, mode=mode)[0]
    height, width = image.shape[1:]
    return {
        (row, column, flipped)
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
        for flipped in (False, True)
        if torch.equal(crop.flip(-1) if flipped else crop, padded[:, row : row + height, column : column + width])
    }


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_every_image_is_an_exact_window_of_its_padded_self(mode):
    images = torch.rand(200, 3, 7, 9)
    crops = CropFlip(padding=2, padding_mode=mode)(images, generator())
    found = [places(image, crop, 2, mode) for image, crop in zip(images, crops, strict=True)]
    assert all(len(place) == 1 for place in found)
    drawn = [place.pop() for place in found]
    assert len(set(drawn)) > 40  # 200 draws miss few of the 5 x 5 x 2 places
    assert 70 < sum(flipped for _, _, flipped in drawn) < 130


def test_without_padding_and_flip_nothing_changes():
    images = torch.rand(5, 1, 6, 6)
    assert torch.equal(CropFlip(padding=0, flip=False)(images, generator()), images)


def test_the_same_generator_state_gives_the_same_augmentation_whether_or_not_images_are_flipped():
    images = torch.rand(50, 1, 6, 6)
    plain, flipped = (CropFlip(padding=2, flip=flip)(images, generator(3)) for flip in (False, True))
    same = (plain == flipped).flatten(1).all(dim=1)
    mirrored = (plain.flip(-1) == flipped).flatten(1).all(dim=1)
    assert bool((same | mirrored).all())


AUGMENTATIONS = {
    "crop": CropFlip(padding=2),
    "kornia": Kornia([kornia.augmentation.RandomAffine(20.0, p=1.0), kornia.augmentation.ColorJiggle(0.5, p=1.0)]),
}


@pytest.mark.parametrize("augment", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_an_augmentation_is_repeatable_stays_in_the_box_and_leaves_no_trace(augment):
    images = torch.rand(20, 3, 8, 8)
    original, state = images.clone(), torch.get_rng_state()
    once, again, other = (augment(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.shape == images.shape
    assert once.min() >= 0
    assert once.max() <= 1
    assert torch.equal(images, original)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(augment, Augmentation)


def test_kornia_augments_every_image_in_its_own_way():
    image = torch.rand(1, 3, 8, 8).expand(6, -1, -1, -1)
    augmented = Kornia([kornia.augmentation.RandomAffine(90.0, p=1.0)])(image, generator())
    assert len({float(one.sum()) for one in augmented}) == 6


def test_impossible_padding_is_refused():
    with pytest.raises(InputError, match="padding must be at least 0"):
        CropFlip(padding=-1)
    with pytest.raises(InputError, match="padding 6 by reflection"):
        CropFlip(padding=6, padding_mode="reflect")(torch.rand(1, 1, 6, 6), generator())
