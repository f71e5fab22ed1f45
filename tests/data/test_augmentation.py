import kornia.augmentation
import pytest
import torch
import torch.nn.functional as F

from lightning_adv.data import Augmentation, CropFlip, CropShift, Cutout, Kornia
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
    "shift": CropShift(most=5),
    "cutout": Cutout(size=4),
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


def test_what_crop_shift_leaves_is_a_window_of_the_image_at_another_place():
    images = torch.rand(100, 1, 7, 9) + 1  # nothing is black of itself
    least, most = 2, 5
    for image, moved in zip(images[:, 0], CropShift(least, most)(images, generator())[:, 0], strict=True):
        rows, columns = (moved > 0).any(dim=1).nonzero().flatten(), (moved > 0).any(dim=0).nonzero().flatten()
        part = moved[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        height, width = part.shape
        assert least <= 7 - height + 9 - width <= most
        windows = image.unfold(0, height, 1).unfold(1, width, 1).flatten(0, 1)
        assert (windows == part).flatten(1).all(dim=1).sum() == 1
    whole = CropShift(0, 0)(images, generator())
    assert torch.equal(whole, images)


def test_cutout_blackens_one_square_that_may_lie_partly_outside():
    images = torch.ones(300, 1, 8, 8)
    black = (Cutout(size=4)(images, generator()) == 0)[:, 0]
    heights, widths = black.any(dim=2).sum(dim=1), black.any(dim=1).sum(dim=1)
    assert torch.equal(black.flatten(1).sum(dim=1), heights * widths)
    assert set(heights.tolist()) == set(widths.tolist()) == {2, 3, 4}
    assert black.any(dim=0).all(), "every pixel is met"


def test_impossible_shifts_are_refused():
    with pytest.raises(InputError, match="0 <= least <= most"):
        CropShift(3, 2)
    with pytest.raises(InputError, match="leaving out 6 pixels needs images larger"):
        CropShift(most=6)(torch.rand(1, 1, 6, 6), generator())


def test_impossible_padding_is_refused():
    with pytest.raises(InputError, match="padding must be at least 0"):
        CropFlip(padding=-1)
    with pytest.raises(InputError, match="padding 6 by reflection"):
        CropFlip(padding=6, padding_mode="reflect")(torch.rand(1, 1, 6, 6), generator())
