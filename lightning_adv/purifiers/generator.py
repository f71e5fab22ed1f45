"""New images of a class by a diffusion model, with classifier-free guidance (Ho and Salimans, 2022).

e = e(z, t) + guidance * (e(z, t, class) - e(z, t)),    from noise by the steps of a scheduler
"""

import torch
from torch import Tensor, nn

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.denoising import NoiseSchedule
from lightning_adv.purifiers.pretrained import load_pretrained

__all__ = ["DiffusionGenerator"]


class DiffusionGenerator(nn.Module):
    """Images made from noise that is a function of (seed, number): whoever makes an image makes the same one.

    Args:
        path: folder of a diffusers pipeline, as ``DiffusionModule`` exports it with ``conditional``, or a hub id.
        steps: evaluations of the network.
        guidance: how strongly the class is followed; 1 asks the network once a step, other values twice.
        scheduler: class of diffusers, e.g. "DDIMScheduler", or "DDPMScheduler", which draws noise on its way.
        seed: of the noise.
        local_files_only: never ask the hub.

    Raises:
        InputError: a value out of range, an unknown scheduler, a folder or model that cannot be loaded, a model that
            was trained without classes.

    Example:
        >>> import tempfile
        >>> from lightning_adv.modules import DiffusionModule
        >>> module = DiffusionModule((8, 8), conditional=True, num_classes=3, in_channels=1, image_size=(8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     module.save_pretrained(folder)
        ...     generator = DiffusionGenerator(folder, steps=2)
        >>> generator(torch.tensor([0, 2]), torch.tensor([5, 6])).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        path: str,
        steps: int = 50,
        guidance: float = 1.0,
        scheduler: str = "DDIMScheduler",
        seed: int = 0,
        local_files_only: bool = False,
    ) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        if not 0 <= guidance < float("inf"):
            raise InputError(f"guidance must be 0 or more, got {guidance}; 1 follows the class as it was trained")
        self.guidance, self.seed = guidance, seed
        self.network = load_pretrained(UNet2DModel, path, "unet", local_files_only)
        if self.network.config.num_class_embeds is None:
            raise InputError(f"{path} was trained without classes: train a DiffusionModule with conditional=true")
        self.schedule = NoiseSchedule(path, scheduler, 1.0, steps, local_files_only, "level")
        config = self.network.config
        self.num_classes = config.num_class_embeds - 1
        size = config.sample_size
        self.shape = (config.in_channels, *((size, size) if isinstance(size, int) else size))

    @torch.no_grad()
    def forward(self, label: Tensor, number: Tensor) -> Tensor:
        """Images [N, C, H, W] in [0, 1].

        Args:
            label: [N] their classes, on the generator's device.
            number: [N] int64 of each image, which its noise is made from.
        """

        def predicted(z: Tensor, timestep: Tensor) -> Tensor:
            told = self.network(z, timestep, label).sample
            if self.guidance == 1:
                return told
            untold = self.network(z, timestep, torch.full_like(label, self.num_classes)).sample
            return untold + self.guidance * (told - untold)

        grey = torch.zeros(len(label), *self.shape, device=label.device)
        z = self.schedule.purify(grey, SampleNoise(self.seed, number), predicted)
        return ((z + 1) / 2).clamp(0, 1)
