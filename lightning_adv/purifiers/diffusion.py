"""Purification by a diffusion model (DiffPure; Nie et al., 2022): noise up to t*, then denoise.

z = sqrt(a(t*)) x + sqrt(1 - a(t*)) e,    then from t* to 0 by the steps of a scheduler
"""

import torch
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.purifiers.denoising import NoiseSchedule
from lightning_adv.purifiers.pretrained import check_chunk, check_fits, load_pretrained
from lightning_adv.purifiers.purifier import Purifier

__all__ = ["Diffusion"]


class Diffusion(Purifier):
    """Images drowned in noise up to a level and denoised by a pixel diffusion model.

    Gradients are exact; those of the network are computed again step by step, so that memory grows with one step. With
    a scheduler that keeps no state between its steps (DDPM, DDIM) this holds for any number of them.

    Args:
        path: folder of a diffusers pipeline with ``unet`` and ``scheduler``, as ``DiffusionModule`` exports it, or a
            hub id.
        noise_level: t* as a share of the whole diffusion; DiffPure takes .1 on CIFAR-10 at Linf 8/255.
        steps: evaluations of the network.
        scheduler: class of diffusers, e.g. "DDPMScheduler" (draws noise on its way) or "DDIMScheduler".
        seed: of the noise.
        chunk: images that the network sees at a time; more fill a GPU. Results for one chunk have equal bits in batches
            of any size.
        local_files_only: never ask the hub.

    Raises:
        InputError: a value out of range, an unknown scheduler, a folder or model that cannot be loaded; at the call,
            images of other channels, or of a size that the network cannot halve.

    Example:
        >>> import tempfile
        >>> from lightning_adv.modules import DiffusionModule
        >>> module = DiffusionModule(channels=(8, 8), in_channels=1, image_size=(8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     module.save_pretrained(folder)
        ...     purifier = Diffusion(folder, noise_level=0.2, steps=2)
        >>> purifier(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    randomised = True

    def __init__(
        self,
        path: str,
        noise_level: float = 0.1,
        steps: int = 4,
        scheduler: str = "DDPMScheduler",
        seed: int = 0,
        chunk: int = 32,
        local_files_only: bool = False,
    ) -> None:
        from diffusers import UNet2DModel

        super().__init__(seed)
        self.chunk = check_chunk(chunk)
        self.path, self.noise_level, self.steps, self.scheduler = path, noise_level, steps, scheduler
        self.local_files_only = local_files_only
        self.network = load_pretrained(UNet2DModel, path, "unet", local_files_only)
        self.schedule = NoiseSchedule(path, scheduler, noise_level, steps, local_files_only)

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """Noised to t*, denoised in ``steps`` steps."""
        config = self.network.config
        check_fits("the diffusion model", x.shape, config.in_channels, 2 ** (len(config.block_out_channels) - 1))
        return (self.schedule.purify(2 * x - 1, noise, self._predicted) + 1) / 2

    def _predicted(self, z: Tensor, timestep: Tensor) -> Tensor:
        classes = self.network.config.num_class_embeds  # the last stands for no class
        told = () if classes is None else (torch.full((len(z),), classes - 1, device=z.device),)
        return self.network(z, timestep, *told).sample
