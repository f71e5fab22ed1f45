import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from lightning_adv.data import ImageBatch, InMemoryImages, LazyImages, float_images
from lightning_adv.data.seeds import derive_seed
from lightning_adv.errors import InputError

from .builders import marked_images, numbers_in


def in_memory(count=10):
    return InMemoryImages(marked_images(count), torch.arange(count) % 3)


class Pictures:
    """Twelve PIL pictures whose grey level is their number."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return Image.fromarray(np.full((4, 4), i, dtype=np.uint8)), i % 2


def jittered(image):
    """Draws from all three global generators, as the transforms of torchvision and timm do."""
    noise = torch.rand(1) + random.random() + np.random.random()  # noqa: NPY002
    return transforms.functional.to_tensor(image) + noise


def test_a_list_of_positions_is_one_batch():
    batch = in_memory()[[3, 5]]
    assert isinstance(batch, ImageBatch)
    assert batch.image.shape == (2, 1, 6, 6)
    assert batch.image.dtype == torch.uint8
    assert numbers_in(batch.image) == batch.index.tolist() == [3, 5]
    assert batch.label.tolist() == [0, 2]
    assert batch.label.dtype == batch.index.dtype == torch.int64


def test_one_position_is_a_batch_of_one():
    assert in_memory()[4].image.shape == (1, 1, 6, 6)


def test_the_index_addresses_the_image_in_the_source_after_any_selection():
    data = in_memory().select([9, 2, 7, 4]).select([3, 0])
    assert len(data) == 2
    assert data.labels.tolist() == [1, 0]
    assert numbers_in(data.images) == data[[0, 1]].index.tolist() == numbers_in(data[[0, 1]].image) == [4, 9]


def test_selecting_shares_the_pixels():
    data = in_memory()
    assert data.select([1, 2]).source_images.data_ptr() == data.source_images.data_ptr()


def test_uint8_becomes_exactly_what_torchvision_makes_of_it():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ours = float_images(torch.from_numpy(levels)[None, None])[0]
    assert torch.equal(ours, transforms.functional.to_tensor(Image.fromarray(levels)))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.long), "must have the shape"),
        (torch.zeros(3, 1, 4, 4, dtype=torch.int32), torch.zeros(3, dtype=torch.long), "must be uint8, or floats"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(2, dtype=torch.long), "3 images, 2 labels"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(3), "labels must be 3 integers"),
    ],
)
def test_tensors_that_are_no_labelled_images_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        InMemoryImages(images, labels)


def test_lazy_images_answer_like_images_in_memory():
    data = LazyImages(Pictures(), torch.arange(12) % 2).select([8, 3, 11])
    batch = data[[2, 0]]
    assert batch.image.dtype == torch.uint8
    assert batch.image[:, 0, 0, 0].tolist() == batch.index.tolist() == [11, 8]
    assert batch.label.tolist() == [1, 0]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_lazy_augmentation_depends_on_seed_epoch_and_image_only(num_workers):
    data = LazyImages(Pictures(), torch.arange(12) % 2, jittered, seed=5)

    def epoch(number, batches):
        data.set_epoch(number)
        loaded = DataLoader(data, sampler=batches, batch_size=None, num_workers=num_workers)
        return {int(i): image for batch in loaded for i, image in zip(batch.index, batch.image, strict=True)}

    forwards, backwards = epoch(1, [[0, 1, 2], [3, 4]]), epoch(1, [[4], [2, 3], [1, 0]])
    assert all(torch.equal(forwards[i], backwards[i]) for i in range(5))
    assert not torch.equal(forwards[0], epoch(2, [[0]])[0])
    assert len({float(image.mean() - i / 255) for i, image in forwards.items()}) == 5


def test_loading_with_random_transforms_leaves_the_global_generators_alone():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    LazyImages(Pictures(), torch.arange(12) % 2, jittered)[[0, 1]]
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after


def test_evaluation_uses_the_transform_without_randomness():
    data = LazyImages(Pictures(), torch.arange(12) % 2, jittered, transforms.functional.to_tensor)
    assert torch.equal(data.for_evaluation().select([6])[[0]].image, torch.full((1, 1, 4, 4), 6 / 255))


def test_lazy_images_of_different_sizes_are_refused():
    data = LazyImages(Pictures(), torch.arange(12) % 2, lambda image: image.resize((2 + image.getpixel((0, 0)), 4)))
    with pytest.raises(InputError, match=r"differ in size.*resizes them"):
        data[[0, 1]]


def test_derived_seeds_depend_on_every_part_and_its_place():
    parts = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 1), (11, 1), (1, 11), (-1, 0)]
    seeds = {derive_seed(*part) for part in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
