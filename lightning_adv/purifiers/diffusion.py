"""Purification by a diffusion model (DiffPure; Nie et al., 2022): noise up to t*, then denoise.

z = sqrt(a(t*)) x + sqrt(1 - a(t*)) e,    then from t* to 0 by the steps of a scheduler
"""

from functools import partial

import torch
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.gradients import recomputed
from lightning_adv.purifiers.pretrained import check_images, load_pretrained
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
        local_files_only: bool = False,
    ) -> None:
        import diffusers

        super().__init__(seed)
        if not 0 < noise_level <= 1:
            raise InputError(f"noise_level must lie in (0, 1], got {noise_level}: a share of the diffusion's steps")
        if steps < 1:
            raise InputError(f"steps must be at least 1, got {steps}")
        kind = getattr(diffusers, scheduler, None)
        if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
            raise InputError(f"scheduler must name a scheduler of diffusers, e.g. DDIMScheduler, got {scheduler!r}")
        self.path, self.noise_level, self.steps, self.scheduler = path, noise_level, steps, scheduler
        self.local_files_only = local_files_only
        self.network = load_pretrained(diffusers.UNet2DModel, path, "unet", local_files_only)
        try:
            trained = diffusers.DDPMScheduler.from_pretrained(
                path, subfolder="scheduler", local_files_only=local_files_only
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{path} holds no scheduler/scheduler_config.json: {error}") from error
        # trailing: the first of the steps that are taken is t* itself, not one step below
        self._new_scheduler = partial(kind.from_config, trained.config, timestep_spacing="trailing")

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """Noised to t*, denoised in ``steps`` steps."""
        config = self.network.config
        check_images("the diffusion model", x.shape, config.in_channels, 2 ** (len(config.block_out_channels) - 1))
        scheduler = self._new_scheduler()
        scheduler.set_timesteps(round(self.steps / self.noise_level), device=x.device)
        timesteps = scheduler.timesteps[-self.steps :]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(len(scheduler.timesteps) - len(timesteps))
        z = scheduler.add_noise(2 * x - 1, noise.normal(x), timesteps[:1].expand(len(x)))
        own = {"generator": _generators(noise, x)} if "generator" in _arguments(scheduler.step) else {}
        for timestep in timesteps:
            predicted = recomputed(
                partial(self._predicted, timestep=timestep), scheduler.scale_model_input(z, timestep)
            )
            z = scheduler.step(predicted, timestep, z, **own).prev_sample
        return (z + 1) / 2

    def _predicted(self, z: Tensor, timestep: Tensor) -> Tensor:
        return self.network(z, timestep).sample


def _generators(noise: SampleNoise, x: Tensor) -> list[torch.Generator]:
    """One on the CPU for each sample, seeded by (seed, index, draw): what a scheduler draws knows no batch."""
    high, low = ((noise.uniform(x.new_empty(len(x), 1))[:, 0] * 2**24).long().tolist() for _ in range(2))
    return [torch.Generator().manual_seed((a << 24) | b) for a, b in zip(high, low, strict=True)]


def _arguments(function: object) -> tuple[str, ...]:
    code = getattr(function, "__code__", None)
    return () if code is None else code.co_varnames[: code.co_argcount]
