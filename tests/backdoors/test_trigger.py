import pytest
import torch
from PIL import Image

from lightning_adv.backdoors import (
    BPP,
    SIG,
    Blend,
    LowFrequency,
    MaskedPattern,
    Narcissus,
    Patch,
    Pieces,
    RandomPattern,
    Several,
    StaticPerturbation,
    TrojanTrigger,
    UniversalPerturbation,
    WaNet,
    load_triggers,
    save_triggers,
)
from lightning_adv.errors import InputError

SHAPE = (3, 8, 6)
SOFT = torch.rand(1, 8, 6, generator=torch.Generator().manual_seed(1))
PATTERN = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2))


def prepared(trigger, count=7):
    """The trigger, told of random images that would be poisoned."""
    images = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(3))
    trigger.prepare([(images, torch.zeros(count, dtype=torch.long), torch.arange(count))])
    return trigger


FIXED = [
    Patch(size=3),
    Patch(size=2, place="top_left", margin=1, colour=[0.1, 0.5, 0.9], checkerboard=True),
    Blend(alpha=0.3),
    RandomPattern(z=10),
    MaskedPattern(mask=SOFT, pattern=PATTERN),
    StaticPerturbation("20/255"),
    UniversalPerturbation(v=PATTERN - 0.5),
    SIG("30/255", frequency=2),
    LowFrequency("20/255", bands=3),
]
"""Those that are a mask and a pattern, or a perturbation: they can be saved, and covers show some of their pixels."""
COMPOSED = [Pieces(Blend(alpha=0.3), 4), Several([Patch(size=2, place="top_left", opacity=0.5), Patch(size=2)])]
TRIGGERS = [*FIXED, *COMPOSED, WaNet(), prepared(BPP(levels=4)), prepared(BPP(levels=4, dither=True))]
each_trigger = pytest.mark.parametrize("trigger", TRIGGERS, ids=repr)


def some_images(count=5):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("trigger", TRIGGERS[:5], ids=repr)
def test_a_mask_and_a_pattern_are_blended_pixel_by_pixel(trigger):
    x = some_images()
    mask, pattern = trigger.mask_and_pattern(SHAPE)
    by_hand = torch.stack([(1 - mask) * image + mask * pattern for image in x])
    torch.testing.assert_close(trigger(x), by_hand, rtol=0, atol=1e-6)
    assert mask.shape == (1, 8, 6)
    assert pattern.shape == SHAPE


@each_trigger
def test_a_trigger_is_pure_stays_in_the_box_and_keeps_the_type(trigger):
    x = some_images().double()
    kept = x.clone()
    once, again = trigger(x), trigger(x)
    assert torch.equal(x, kept)
    assert torch.equal(once, again)
    assert once.dtype == torch.float64
    assert once.min() >= 0
    assert once.max() <= 1
    assert not torch.equal(once, x)


@each_trigger
def test_an_image_is_triggered_alike_in_every_batch(trigger):
    x, index = some_images(), torch.tensor([7, 3, 20, 1, 0])
    assert torch.equal(trigger(x)[2:3], trigger(x[2:3]))
    whole = trigger.cover(x, 0.5, seed=4, index=index)
    assert torch.equal(whole[[3, 1]], trigger.cover(x[[3, 1]], 0.5, seed=4, index=index[[3, 1]]))
    assert torch.equal(trigger.poison(x, 1.0, seed=4, index=index), trigger(x))
    assert torch.equal(trigger.poison(x, 0.5, seed=4, index=index), trigger.part(x, 0.5, seed=4, index=index))


@pytest.mark.parametrize("trigger", FIXED, ids=repr)
def test_a_cover_image_shows_its_share_of_the_pixels_as_they_are_and_leaves_the_others(trigger):
    x = some_images()
    full, cover = trigger(x), trigger.cover(x, 0.6, seed=0, index=torch.arange(5))
    shown, left = (cover == full).all(dim=1), (cover == x).all(dim=1)
    assert (shown | left).all()
    differing = (full != x).any(dim=1)  # pixels where the two can be told apart
    wanted = round(0.6 * int(trigger.support(SHAPE).sum()))
    invisible = trigger.support(SHAPE) & ~differing
    for number in range(5):
        count = int((shown & differing)[number].sum())
        assert wanted - int(invisible[number].sum()) <= count <= wanted


def test_subsets_are_fresh_for_every_image_and_seed_and_cover_the_mask_evenly():
    trigger, count = RandomPattern(z=10), 2000
    x = torch.zeros(count, *SHAPE)
    mask = trigger.support(SHAPE)
    one = trigger._subsets(x, 0.6, 0, torch.arange(count))
    other = trigger._subsets(x, 0.6, 1, torch.arange(count))
    assert (one.flatten(1).sum(1) == 6).all()
    assert not (one & ~mask).any()
    assert not torch.equal(one, other)
    share = one.float().mean(dim=0)[mask]
    assert (share - 0.6).abs().max() < 0.05  # 4.5 standard deviations


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_cover_image_at_the_ends_of_the_rate_is_the_clean_or_the_triggered_one(rate):
    x = some_images()
    cover = TRIGGERS[3].cover(x, rate, seed=0, index=torch.arange(5))
    assert torch.equal(cover, TRIGGERS[3](x) if rate else x)


def test_a_soft_mask_keeps_its_values_in_a_cover_image_unless_binarised():
    soft, hard = (MaskedPattern(mask=SOFT, pattern=PATTERN, binarise=cut) for cut in (None, 0.5))
    x = torch.zeros(1, *SHAPE)
    shown = soft._subsets(x, 0.5, 0, torch.tensor([0]))
    torch.testing.assert_close(soft.cover(x, 0.5, 0, torch.tensor([0])), shown * SOFT * PATTERN)
    assert torch.equal(hard.mask, (SOFT > 0.5).float())


@pytest.mark.parametrize(
    ("place", "corner"),
    [
        ("top_left", (1, 1)),
        ("top_right", (1, 3)),
        ("bottom_left", (5, 1)),
        ("bottom_right", (5, 3)),
        ("centre", (3, 2)),
    ],
)
def test_a_patch_lies_where_it_is_told_to(place, corner):
    mask, _ = Patch(size=2, place=place, margin=1).mask_and_pattern(SHAPE)
    where = mask[0].nonzero()
    assert tuple(where[0].tolist()) == corner
    assert len(where) == 4


def test_a_checkerboard_has_its_colour_on_every_second_pixel():
    _, pattern = Patch(size=3, place="top_left", colour=0.8, checkerboard=True).mask_and_pattern((1, 4, 4))
    expected = torch.tensor([[0.8, 0, 0.8], [0, 0.8, 0], [0.8, 0, 0.8]])
    assert torch.equal(pattern[0, :3, :3], expected)


def test_a_random_pattern_is_a_function_of_its_seed_with_z_pixels_of_whole_grey_levels():
    one, same, other = (RandomPattern(z=12, seed=seed).mask_and_pattern(SHAPE) for seed in (1, 1, 2))
    assert torch.equal(one[0], same[0])
    assert torch.equal(one[1], same[1])
    assert not torch.equal(one[0], other[0])
    assert one[0].sum() == 12
    torch.testing.assert_close(one[1] * 255, (one[1] * 255).round())


def test_half_of_the_pieces_are_shown_whole_others_in_every_image():
    trigger, x = Pieces(Blend(alpha=0.5), 16), torch.zeros(200, 1, 8, 12)
    shown = trigger.part(x, 0.5, 0, torch.arange(200)) == trigger(x)
    pieces = shown.view(200, 4, 2, 4, 3).transpose(2, 3).flatten(3)  # [N, row, column, pixels of a piece]
    assert torch.equal(pieces.any(3), pieces.all(3))
    assert (pieces.all(3).flatten(1).sum(1) == 8).all()
    assert len(pieces.all(3).flatten(1).unique(dim=0)) > 150
    assert (pieces.float().mean(dim=(0, 3)) - 0.5).abs().max() < 0.15  # 4 standard deviations


def test_one_of_several_triggers_is_shown_and_all_of_them_in_the_whole():
    trigger = Several([Patch(size=1, place=place) for place in ("top_left", "top_right", "bottom_left")])
    x = torch.zeros(300, 1, 4, 4)
    shown = trigger.part(x, 1 / 3, 0, torch.arange(300))
    assert (shown.flatten(1).sum(1) == 1).all()
    counts = [int(shown[:, 0, row, column].sum()) for row, column in ((0, 0), (0, -1), (-1, 0))]
    assert min(counts) > 70
    assert torch.equal(trigger(x).flatten(1).sum(1), torch.full((300,), 3.0))


def test_an_opacity_thins_a_patch_and_says_so_only_where_there_is_one():
    thin, x = Patch(size=1, place="top_left", opacity=0.25), torch.full((1, 1, 2, 2), 0.5)
    assert thin(x).flatten().tolist() == [0.625, 0.5, 0.5, 0.5]
    assert "opacity=0.25" in repr(thin)
    assert "opacity" not in repr(Patch())


def test_a_picture_is_blended_in_from_a_file(tmp_path):
    Image.new("RGB", (60, 80), (255, 0, 51)).save(tmp_path / "key.png")
    blended = Blend(alpha=0.5, picture=str(tmp_path / "key.png"))(torch.zeros(1, *SHAPE))
    torch.testing.assert_close(blended[0, :, 4, 4], torch.tensor([0.5, 0.0, 0.1]))


@pytest.mark.parametrize("trigger", FIXED, ids=repr)
def test_a_saved_trigger_does_the_same_when_loaded(trigger, tmp_path):
    path = str(tmp_path / "folder" / "trigger.safetensors")
    trigger.save(path, SHAPE)
    loaded = (UniversalPerturbation if hasattr(trigger, "perturbation") else MaskedPattern)(path)
    assert torch.equal(loaded(some_images()), trigger(some_images()))


def test_the_trigger_of_a_class_is_found_in_a_file_of_many(tmp_path):
    masks, patterns = torch.rand(2, 1, 8, 6), torch.rand(2, *SHAPE)
    save_triggers(tmp_path / "t.safetensors", masks, patterns, torch.tensor([4, 7]), {"index": "3.1"})
    saved = load_triggers(tmp_path / "t.safetensors")
    assert torch.equal(saved.masks, masks)
    assert saved.labels.tolist() == [4, 7]
    assert saved.metadata == {"index": "3.1"}
    assert torch.equal(MaskedPattern(str(tmp_path / "t.safetensors"), label=7).pattern, patterns[1])
    with pytest.raises(InputError, match=r"no trigger of class 2; it holds those of \[4, 7\]"):
        MaskedPattern(str(tmp_path / "t.safetensors"), label=2)
    with pytest.raises(InputError, match="name one of"):
        MaskedPattern(str(tmp_path / "t.safetensors"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Patch(size=9)(some_images()), "9 x 9 pixels with margin 0 does not fit images of 8 x 6"),
        (lambda: Patch(colour=[0.1, 0.2])(some_images()), "2 channels, the images have 3"),
        (lambda: Patch(colour=2.0), "colour"),
        (lambda: Patch(place="north"), "place"),
        (lambda: Patch(opacity=0.0), "opacity"),
        (lambda: Pieces(Blend(), 12), "a square grid: 4, 9, 16, ...; got 12"),
        (lambda: Pieces(Blend(), 64)(some_images()), "8 x 6 cannot be cut into 8 x 8 pieces"),
        (lambda: Pieces(Blend(), 4).part(some_images(), 0.1, 0, torch.arange(5)), "shows none of the 4 pieces"),
        (lambda: Several([]), "at least one trigger"),
        (lambda: Blend(alpha=0.0), "alpha"),
        (lambda: Blend(picture="nowhere.png"), "cannot read the picture nowhere.png"),
        (lambda: RandomPattern(z=49)(some_images()), "z = 49"),
        (lambda: RandomPattern(z=0), "at least 1"),
        (lambda: MaskedPattern(), "either path, or mask and pattern"),
        (lambda: MaskedPattern("nowhere.safetensors"), "no file nowhere.safetensors; an inspection writes"),
        (lambda: TrojanTrigger("nowhere.safetensors"), r"no file nowhere.safetensors; optimise_trojan\(\.\.\.\)"),
        (lambda: TrojanTrigger(), "TrojanTrigger needs either path, or mask and pattern"),
        (lambda: Narcissus("nowhere.safetensors"), r"no file nowhere.safetensors; optimise_narcissus\(\.\.\.\)"),
        (lambda: Narcissus(), "Narcissus needs either path or v"),
        (lambda: UniversalPerturbation("nowhere.safetensors"), r"; universal_perturbation\(\.\.\.\)"),
        (lambda: MaskedPattern(mask=torch.zeros(8, 6), pattern=PATTERN), "invisible"),
        (lambda: MaskedPattern(mask=2 * torch.ones(8, 6), pattern=PATTERN), r"masks must lie in \[0, 1\]"),
        (lambda: MaskedPattern(mask=SOFT, pattern=PATTERN)(torch.zeros(1, 3, 6, 8)), "made for images of shape"),
        (lambda: UniversalPerturbation(v=PATTERN)(torch.zeros(1, 1, 8, 6)), "made for images of shape"),
        (lambda: UniversalPerturbation(v=3 * PATTERN), r"in \[-1, 1\]"),
        (lambda: StaticPerturbation(0.0), "intensity"),
        (lambda: SIG(0), "delta and frequency of a sinusoid must be above 0"),
        (lambda: SIG(frequency=0), "delta and frequency of a sinusoid must be above 0"),
        (lambda: WaNet(grid=1), "a grid of at least 2"),
        (lambda: WaNet().save("x", SHAPE), "WaNet cannot be saved"),
        (lambda: BPP(levels=1), "levels must be at least 2"),
        (lambda: BPP().cover(some_images(), 0.5, 0, torch.arange(5)), r"give those to prepare\(\) first"),
        (lambda: LowFrequency(bands=1), "bands at least 2"),
        (lambda: LowFrequency(bands=7)(some_images()), "7 bands of frequencies do not fit images of 8 x 6"),
        (lambda: TRIGGERS[0](torch.zeros(1, 3, 8, 6, dtype=torch.uint8)), "divided by 255"),
        (lambda: TRIGGERS[0].cover(some_images(), 1.2, 0, torch.arange(5)), r"sampling rate must lie in \[0, 1\]"),
        (lambda: save_triggers("x", SOFT, PATTERN, torch.tensor([0])), "a trigger of each of K classes"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong()


def test_gradients_reach_the_image():
    x = some_images().requires_grad_()
    (gradient,) = torch.autograd.grad(MaskedPattern(mask=SOFT, pattern=PATTERN)(x).sum(), x)
    torch.testing.assert_close(gradient, (1 - SOFT).expand_as(x))
