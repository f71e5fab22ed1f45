"""Joined images and their labels."""

import kornia.augmentation
import pytest
import torch
from pytorch_lightning import LightningModule

from lightning_adv.backdoors import Patch
from lightning_adv.data import CropFlip, CutMix, Cutout, Kornia, Mixing, MixUp, PoisonedDataModule
from lightning_adv.data.mixing import partners
from lightning_adv.errors import InputError
from tests.callbacks.strangers import trainer
from tests.data.builders import MarkedData
from tests.processes import torchrun

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


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("share", [1, 2, 6, 16, 24, 64])
def test_every_image_gives_to_one_other_of_its_process(share, processes):
    count = share * processes
    other = partners(count, processes, generator())
    assert other.sort().values.tolist() == list(range(count))
    assert not (other - torch.arange(count)).remainder(processes).any()
    assert (other == torch.arange(count)).any() == (share == 1)


def test_any_other_image_of_the_same_process_may_be_the_partner():
    found = torch.stack([partners(16, 2, generator(seed)) for seed in range(400)])
    for place in range(16):
        met, often = found[:, place].unique(return_counts=True)
        assert met.tolist() == [each for each in range(place % 2, 16, 2) if each != place]
        assert often.min() > 400 / 7 / 2


@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize("mix", MIXINGS.values(), ids=MIXINGS)
def test_processes_join_their_shares_of_a_batch_as_one_joins_the_whole(mix, processes):
    images, label = torch.rand(64, 3, 9, 7), torch.arange(64) % CLASSES
    whole = mix(images, label, CLASSES, generator())
    for rank in range(processes):
        mine = slice(rank, None, processes)
        parts = mix(images[mine], label[mine], CLASSES, generator(), processes, rank)
        assert all(torch.equal(part, each[mine]) for part, each in zip(parts, whole, strict=True))


def test_where_pairs_must_differ_shares_and_boxes_are_the_same():
    class Noted(CutMix):
        def join(self, images, others, kept, place):
            self.kept, self.place = kept, place
            return super().join(images, others, kept, place)

    whole, part, images = Noted(), Noted(), torch.rand(96, 3, 9, 7)
    whole(images, torch.arange(96), 96, generator())
    for rank in range(3):
        part(images[rank::3], torch.arange(96)[rank::3], 96, generator(), 3, rank)
        assert torch.equal(part.kept, whole.kept[rank::3])
        assert torch.equal(part.place, whole.place[:, rank::3])


SCRIPT = """
import sys
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from lightning_adv.data import CutMix, MixUp
from tests.data.builders import MarkedData
from tests.data.test_mixing import Noting

ranks = int(sys.argv[1])
strategy = DDPStrategy(process_group_backend="gloo") if ranks > 1 else "auto"
run = pl.Trainer(max_epochs=2, accelerator="cpu", devices=ranks, strategy=strategy, logger=False,
                 enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                 num_sanity_val_steps=0, limit_val_batches=0)
model = Noting()
run.fit(model, datamodule=MarkedData(train_count=150, batch_size=64 // ranks, mix=[MixUp(), CutMix(share=0.7)]))
torch.save([tuple(batch) for batch in model.seen["train"]], f"{ranks}_{run.global_rank}.pt")
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_two_processes_train_on_the_joined_images_of_one_with_twice_the_batch(tmp_path):
    for ranks in (1, 2):
        torchrun(SCRIPT, tmp_path, ranks, ranks)
    whole, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1_0", "2_0", "2_1"))
    assert len(whole) == 4
    assert all(len(label.unique(dim=0)) > 20 for _, label, _ in whole), "labels are joined"
    for batch, *parts in zip(whole, first, second, strict=True):
        for each, *shares in zip(batch, *parts, strict=True):
            assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), each)


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

        def join(self, images, others, kept, place):
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

        def join(self, images, others, kept, place):
            self.given.append(images)
            return super().join(images, others, kept, place)

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
