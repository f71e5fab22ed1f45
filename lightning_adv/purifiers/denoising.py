"""Noise up to a level t* and the way back, by any scheduler of diffusers."""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.purifiers.gradients import recomputed

__all__ = ["NoiseSchedule"]


class NoiseSchedule:
    """z = sqrt(a(t*)) x + sqrt(1 - a(t*)) e, then from t* to 0 in a few steps.

    Gradients are exact; those of the network are computed again step by step, so that memory grows with one step. With
    a scheduler that keeps no state between its steps (DDPM, DDIM) this holds for any number of them.

    Args:
        path: folder of a diffusers pipeline with ``scheduler``, or a hub id.
        name: class of diffusers, e.g. "DDIMScheduler"; it takes over the settings that were trained with.
        level: t* as a share of the whole diffusion.
        steps: evaluations of the network.
        local_files_only: never ask the hub.
        argument: what the caller calls ``level``, for messages.

    Raises:
        InputError: a value out of range, an unknown scheduler, no settings at ``path``.
    """

    def __init__(
        self, path: str, name: str, level: float, steps: int, local_files_only: bool, argument: str = "noise_level"
    ) -> None:
        import diffusers

        if not 0 < level <= 1:
            raise InputError(f"{argument} must lie in (0, 1], got {level}: a share of the diffusion's steps")
        at_least_one(steps=steps)
        kind = getattr(diffusers, name, None)  # the user's word for a class of another package
        if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
            raise InputError(f"scheduler must name a scheduler of diffusers, e.g. DDIMScheduler, got {name!r}")
        try:
            trained = diffusers.DDPMScheduler.from_pretrained(
                path, subfolder="scheduler", local_files_only=local_files_only
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{path} holds no scheduler/scheduler_config.json: {error}") from error
        if round(steps / level) > trained.config.num_train_timesteps:
            raise InputError(
                f"{argument} {level} leaves {int(level * trained.config.num_train_timesteps)} of the diffusion's "
                f"{trained.config.num_train_timesteps} steps, fewer than steps={steps}"
            )
        self.level, self.steps = level, steps
        # trailing: the first of the steps that are taken is t* itself, not one step below
        self._new = partial(kind.from_config, trained.config, timestep_spacing="trailing")

    def __repr__(self) -> str:
        scheduler = self._new()
        settings = sorted((key, value) for key, value in scheduler.config.items() if not key.startswith("_"))
        return f"{type(scheduler).__name__}({self.level}, {self.steps}, {settings})"

    def purify(self, x: Tensor, noise: SampleNoise, predict: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Images or latents [N, ...], noised to t* and denoised in ``steps`` steps.

        Args:
            x: as the network was trained on them.
            noise: of the samples.
            predict: from noisy ``x`` and a timestep to what the network says; a function of these alone.
        """
        scheduler = self._new()
        scheduler.set_timesteps(round(self.steps / self.level), device=x.device)
        timesteps = scheduler.timesteps[-self.steps :]
        if hasattr(scheduler, "set_begin_index"):  # the schedulers of diffusers share no such base
            scheduler.set_begin_index(len(scheduler.timesteps) - len(timesteps))
        z = scheduler.add_noise(x, noise.normal(x), timesteps[:1].expand(len(x)))
        own = (
            {"generator": _generators(noise, x)} if "generator" in inspect.signature(scheduler.step).parameters else {}
        )
        for timestep in timesteps:
            predicted = recomputed(partial(predict, timestep=timestep), scheduler.scale_model_input(z, timestep))
            z = scheduler.step(predicted, timestep, z, **own).prev_sample
        return z


def _generators(noise: SampleNoise, x: Tensor) -> list[torch.Generator]:
    """One on the CPU for each sample, seeded by (seed, index, draw): what a scheduler draws knows no batch."""
    high, low = ((noise.uniform(x.new_empty(len(x), 1))[:, 0] * 2**24).long().tolist() for _ in range(2))
    return [torch.Generator().manual_seed((a << 24) | b) for a, b in zip(high, low, strict=True)]
