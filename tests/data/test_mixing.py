"""Joined images and their labels."""

import kornia.augmentation
import pytest
import torch
from pytorch_lightning import LightningModule

from lightning_adv.backdoors import Patch
from lightning_adv.data import CropFlip, CutMix, Cutout, Kornia, Mixing, MixUp, PoisonedDataModule
from lightning_adv.errors import InputError
from tests.callbacks.strangers import trainer
from tests.data.builders import MarkedData

CLASSES = 5
MIXINGS = {"mixup": MixUp(alpha=0.8), "cutmix": CutMix(), "half": CutMix(share=0.5)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(count=64, side=8):
    """Images of one grey each, their number, with labels that no neighbour shares."""
    value = torch.arange(count) / count
    return value.view(-1, 1, 1, 1).expand(count, 3, side, side).contiguous(), torch.arange(count) % CLASSES


@pytest.mark.parametrize("mix", MIXINGS.values(), ids=MIXINGS)
def test_a_label_says_how_much_of_each_class_an_image_shows(mix):
    images, label = torch.zeros(64, 3, 8, 8), torch.arange(64) % CLASSES
    colours = torch.eye(CLASSES)[label]  # a channel a class shows the share of the class
    images = colours.view(64, CLASSES, 1, 1).expand(64, CLASSES, 8, 8).contiguous()
    mixed, truth = mix(images, label, CLASSES, generator())
    torch.testing.assert_close(mixed.mean(dim=(2, 3)), truth)
    torch.testing.assert_close(truth.sum(dim=1), torch.ones(64))
    assert (truth.amax(dim=1) < 1).float().mean() > 0.2
    again, other = mix(mixed, truth, CLASSES, generator(1)), mix(images, label, CLASSES, generator(1))
    if isinstance(mix, MixUp):  # a box of an image with a box has the share of its whole image
        torch.testing.assert_close(again[0].mean(dim=(2, 3)), again[1])
    torch.testing.assert_close(again[1].sum(dim=1), torch.ones(64))
    assert not torch.equal(other[0], mixed)


@pytest.mark.parametrize("mix", MIXINGS.values(), ids=MIXINGS)
def test_joining_is_repeatable_stays_in_the_box_and_leaves_no_trace(mix):
    images, label = torch.rand(20, 3, 9, 7), torch.arange(20) % CLASSES
    original, state = images.clone(), torch.get_rng_state()
    once, again = (mix(images, label, CLASSES, generator(1)) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(once, again, strict=True))
    assert once[0].shape == images.shape
    assert 0 <= once[0].min() <= once[0].max() <= 1
    assert torch.equal(images, original)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_where_nothing_is_joined_images_stay_and_labels_are_certain(kind):
    images, label = torch.rand(20, 3, 9, 7), torch.arange(20) % CLASSES
    mixed, truth = kind(share=0.0)(images, label, CLASSES, generator())
    assert torch.equal(mixed, images)
    assert torch.equal(truth, torch.eye(CLASSES)[label])


def test_shares_are_drawn_from_the_distribution_for_every_image():
    images, label = torch.rand(4000, 1, 2, 2), torch.arange(4000)
    for alpha in (0.3, 1.0, 4.0):
        _, truth = MixUp(alpha)(images, label, len(label), generator())
        drawn = truth.diagonal()  # every image is a class of its own
        assert float(drawn.mean()) == pytest.approx(0.5, abs=0.03)
        assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_a_box_of_cutmix_is_one_rectangle_of_the_other_image():
    images, label = plain()
    mixed, _ = CutMix()(images, label, CLASSES, generator())
    foreign = (mixed != images)[:, 0]
    assert torch.equal(foreign, foreign.any(dim=2, keepdim=True) & foreign.any(dim=1, keepdim=True))
    for image, there in zip(mixed[:, 0], foreign, strict=True):
        assert len(image[there].unique()) <= 1
    assert foreign.flatten(1).any(dim=1).float().mean() > 0.7


class Noting(LightningModule):
    """Keeps the batches that it is trained and validated on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = {"train": [], "val": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch)
        return 0.0 * self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(data, folder):
    model = Noting()
    trainer(folder=folder, max_epochs=1).fit(model, datamodule=data)
    return model.seen


def test_training_images_alone_are_joined_behind_their_augmentation_by_one_of_several_each_batch(tmp_path):
    class Steps(Mixing):
        """Leaves its number in the images."""

        def __init__(self, number):
            super().__init__()
            self.number = number

        def join(self, images, others, kept, generator):
            return images * 0 + self.number, kept

    class Black(CropFlip):
        def __call__(self, images, generator):
            return super().__call__(images, generator) * 0

    many = [Steps(0.25), Steps(0.75)]
    seen = trained(MarkedData(batch_size=2, augment=[Black(padding=1), CropFlip(padding=1)], mix=many), tmp_path)
    assert {float(batch.image.amax()) for batch in seen["train"]} == {0.25, 0.75}
    assert all(batch.label.dim() == 2 for batch in seen["train"])
    assert all(batch.label.dim() == 1 for batch in seen["val"])


def test_a_poisoned_image_is_joined_with_its_trigger_and_the_label_that_it_was_given(tmp_path):
    class Noted(MixUp):
        given = []  # noqa: RUF012

        def join(self, images, others, kept, generator):
            self.given.append(images)
            return super().join(images, others, kept, generator)

    def poisoned(**options):
        return trained(PoisonedDataModule(MarkedData(**options), Patch(size=2), target=1, poisoned=16), tmp_path)[
            "train"
        ]

    plain_batches, joined = poisoned(), poisoned(mix=Noted())
    for before, given, batch in zip(plain_batches, Noted.given, joined, strict=True):
        assert torch.equal(before.image, given)
        torch.testing.assert_close(batch.label[:, 1], torch.ones(len(batch.label)))  # all others were made class 1


def test_kornias_policies_are_augmentations_and_its_mixtures_are_refused():
    images = torch.rand(6, 3, 8, 8)
    policy = Kornia([kornia.augmentation.auto.RandAugment(n=2, m=10)])
    once, again, other = (policy(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    with pytest.raises(InputError, match="RandomMixUpV2 joins images, and their labels must follow: give mix"):
        Kornia([kornia.augmentation.RandomMixUpV2()])


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"share": 1.5}])
def test_impossible_shares_are_refused(wrong):
    with pytest.raises(InputError, match=r"MixUp needs alpha > 0 and a share in \[0, 1\]"):
        MixUp(**wrong)
    with pytest.raises(InputError, match="size must be at least 1"):
        Cutout(size=0)
