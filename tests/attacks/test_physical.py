"""A photograph is a function of (seed, number), stays in the box, can be differentiated and switched off in parts."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import EOT, FGSM, PGD, PhysicalWorld
from lightning_adv.errors import InputError

OFF = dict.fromkeys(("perspective", "framing", "blur", "contrast", "brightness", "colour", "noise"), 0.0)
OFF |= {"resolution": 1.0, "quality": None}


def pictures(count: int = 5, channels: int = 3, side: int = 20) -> Tensor:
    """Smooth images, as photographs are."""
    noise = torch.rand(count, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(noise, (side, side), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_happens_to_a_numbered_image_does_not_depend_on_its_batch(channels):
    x, index, world = pictures(channels=channels), torch.tensor([7, 3, 90, 4, 11]), PhysicalWorld()
    together = world(x, index)
    alone = torch.cat([world(x[i : i + 1], index[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=2e-3, rtol=0)
    assert together.shape == x.shape
    assert together.min() >= 0
    assert together.max() <= 1
    assert not torch.allclose(together, PhysicalWorld(seed=1)(x, index), atol=0.05)


def test_every_number_is_photographed_in_another_way():
    same = pictures(1).expand(4, -1, -1, -1)
    photos = PhysicalWorld()(same, torch.arange(4))
    assert all((photos[i] - photos[j]).abs().mean() > 0.005 for i in range(4) for j in range(i))


def test_without_a_number_it_is_drawn_from_the_global_generator():
    x, world = pictures(), PhysicalWorld()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = world(x), world(x)
        torch.manual_seed(0)
        assert torch.equal(world(x), first)
    assert not torch.equal(first, second)


def test_with_everything_off_it_is_the_identity():
    x = pictures()
    assert torch.equal(PhysicalWorld(**OFF)(x, torch.arange(5)), x)


@pytest.mark.parametrize(
    "part",
    [
        {"perspective": 0.1}, {"framing": 0.1}, {"resolution": 0.5}, {"blur": 1.0}, {"contrast": 0.3},
        {"brightness": 0.2}, {"colour": 0.2}, {"noise": 0.1}, {"quality": 20},
    ],
    ids=lambda part: next(iter(part)),
)  # fmt: skip
def test_each_part_changes_the_image_alone_and_has_a_gradient(part):
    x = pictures().requires_grad_(True)
    photo = PhysicalWorld(**(OFF | part))(x, torch.arange(5))
    assert 0.001 < (photo - x).abs().mean() < 0.3
    (grad,) = torch.autograd.grad(photo.sum(), x)
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0


def test_contrast_and_brightness_are_the_affine_maps_they_say():
    x = torch.full((50, 1, 4, 4), 0.5)
    index = torch.arange(50)
    lighter = PhysicalWorld(**(OFF | {"brightness": 0.2}))(x, index) - x
    assert lighter.abs().max() <= 0.2
    assert lighter.std() > 0.08
    assert torch.equal(PhysicalWorld(**(OFF | {"contrast": 0.3}))(x, index), x)


class Bars(nn.Module):
    """Two classes by the difference of the left and the right half."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        lead = 5 * (x[..., :half].mean(dim=(1, 2, 3)) - x[..., half:].mean(dim=(1, 2, 3)))
        checker = (-1.0) ** torch.arange(x.shape[3])  # a fine pattern that a lens wipes out
        return torch.stack([lead + 30 * (x * checker).mean(dim=(1, 2, 3)), -lead], dim=1)


def test_an_attack_over_the_photographs_survives_where_one_on_the_image_does_not():
    x = torch.full((8, 1, 16, 16), 0.4)
    x[..., :8] += 0.12
    y = torch.zeros(8, dtype=torch.int64)
    model, world = Bars(), PhysicalWorld(noise=0.01)
    seen = nn.Sequential(world, model)
    index = torch.arange(8) + 100
    plain = FGSM(eps=0.08)(model, x, y)
    robust = EOT(PGD(eps=0.08, steps=10), samples=8)(seen, x, y)
    fooled = [(model(world(images, index)).argmax(dim=1) != y).double().mean() for images in (plain, robust)]
    assert (model(plain).argmax(dim=1) != y).all()
    assert fooled[1] > fooled[0]
    assert fooled[1] > 0.7


@pytest.mark.parametrize(
    "options", [{"perspective": 0.5}, {"noise": -1.0}, {"resolution": 0.0}, {"quality": 0}, {"blur": float("nan")}]
)
def test_an_argument_out_of_range_is_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        PhysicalWorld(**options)


def test_images_of_two_channels_are_refused():
    with pytest.raises(InputError, match="1 or 3"):
        PhysicalWorld()(torch.rand(1, 2, 8, 8))
