"""What attacks leave once images are photographed."""

import torch

from experiments.physical.bench import ATTACKS, Bench
from lightning_adv.data import MNISTSubset
from lightning_adv.models import create_model


def test_images_that_are_made_over_photographs_are_the_same_in_every_process(tmp_path):
    images = MNISTSubset(max_val_samples=50)
    images.setup()
    model = create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28)).eval()
    bench = Bench("MNIST", tmp_path, images, model, count=3)
    made = []
    for state in (1, 2):  # where another process's generator may stand
        torch.manual_seed(state)
        made.append(bench.crafted(ATTACKS["PGD over photographs"](0.1)))
        assert torch.initial_seed() == state
    assert torch.equal(*made)
