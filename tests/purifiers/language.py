"""Small networks for language-guided purification, written as the modules write them."""

from pathlib import Path

import torch

from lightning_adv.modules import CaptionerModule, LatentDiffusionModule

__all__ = ["CLASSES", "SIZE", "write_captioner", "write_latent_diffusion"]

SIZE = (8, 8)
CLASSES = ["cat", "dog", "ship"]


def write_latent_diffusion(folder: Path, channels: int = 3) -> Path:
    """A latent diffusion model with random weights that listens to its prompts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = LatentDiffusionModule(
            autoencoder_channels=(8, 8), channels=(8, 16), text_width=8, class_names=CLASSES, in_channels=channels,
            image_size=SIZE,
        )  # fmt: skip
        for parameter in module.average.module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        module.save_pretrained(str(folder))
    return folder


def write_captioner(folder: Path, channels: int = 3) -> Path:
    """A captioner with random weights that says different things of different images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = CaptionerModule(class_names=CLASSES, in_channels=channels, image_size=SIZE, width=16, layers=1)
        for parameter in module.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        module.save_pretrained(str(folder))
    return folder
