"""Training of a pixel diffusion model (DDPM; Ho et al., 2020) that purifies images, or makes some of a class.

|e - network(sqrt(a(t)) x + sqrt(1 - a(t)) e, t)|^2,    t uniform, e ~ N(0, 1)
"""

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanMetric

from lightning_adv.errors import InputError
from lightning_adv.files import replace_folder
from lightning_adv.modules.resumable import Resumable
from lightning_adv.modules.sharding import shard, whole
from lightning_adv.purifiers.pretrained import check_fits

__all__ = ["DiffusionModule"]


class DiffusionModule(Resumable, LightningModule):
    """A DDPM on diffusers' ``UNet2DModel``, its weights averaged over training (EMA).

    ``forward`` predicts the noise; with ``conditional``, also that of images of a class, which ``GeneratedImages``
    samples by. After ``fit`` the averaged network is written to ``export`` as a ``DDPMPipeline``,
    from where the purifier ``Diffusion`` reads it. From the command line, channels and size are taken from the data.
    Under ``ModelParallelStrategy`` (``configs/strategies/fsdp.yaml``) both networks are spread over the processes.

    Args:
        channels: of the network's levels; each after the first halves the image, the last has attention.
        layers_per_block: residual blocks a level.
        timesteps: of the diffusion.
        ema: decay of the average over steps.
        lr: of Adam.
        export: folder for the pipeline at the end of ``fit``; None for none.
        conditional: tell the network the class of an image.
        unguided: share of the images whose class it is not told, which classifier-free guidance (Ho and Salimans,
            2022) and the purifier need.
        in_channels: C of the images.
        image_size: (H, W) of the images.
        num_classes: K of the images.

    Raises:
        InputError: a value out of range, images that cannot be halved often enough.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32, 64),
        layers_per_block: int = 1,
        timesteps: int = 1000,
        ema: float = 0.995,
        lr: float = 1e-3,
        export: str | None = None,
        conditional: bool = False,
        unguided: float = 0.1,
        in_channels: int | None = None,
        image_size: tuple[int, int] | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if in_channels is None or image_size is None:
            raise InputError("DiffusionModule needs in_channels and image_size; with --data they come from the data")
        if len(channels) < 2 or any(width % 8 for width in channels):
            raise InputError(f"channels must be two or more multiples of 8, got {list(channels)}")
        if not 0 <= ema < 1 or lr <= 0 or timesteps < 2 or layers_per_block < 1:
            raise InputError(
                f"ema must lie in [0, 1), lr be positive, timesteps at least 2; got {ema}, {lr}, {timesteps}"
            )
        if conditional and (num_classes is None or not 0 <= unguided < 1):
            raise InputError(
                f"conditional needs num_classes, which come from the data with --data, and unguided in [0, 1); got "
                f"{num_classes}, {unguided}"
            )
        check_fits("DiffusionModule", (1, in_channels, *image_size), in_channels, 2 ** (len(channels) - 1))
        self.save_hyperparameters()
        from diffusers import DDPMScheduler, UNet2DModel

        plain = len(channels) - 1
        self.network = UNet2DModel(
            sample_size=tuple(image_size),
            in_channels=in_channels,
            out_channels=in_channels,
            block_out_channels=tuple(channels),
            layers_per_block=layers_per_block,
            norm_num_groups=8,
            attention_head_dim=8,
            down_block_types=(*["DownBlock2D"] * plain, "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", *["UpBlock2D"] * plain),
            num_class_embeds=num_classes + 1 if conditional else None,  # the last stands for no class
        )
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(ema)).requires_grad_(False)
        self.scheduler = DDPMScheduler(num_train_timesteps=timesteps)
        self.lr, self.export, self.unguided = lr, export, unguided
        self.no_class = num_classes if conditional else None
        self.train_loss = MeanMetric(nan_strategy="disable")

    def configure_model(self) -> None:
        """Spread the networks where the strategy asks for it."""
        for network in (self.network, self.average.module):
            shard(network, self.device_mesh)

    def forward(self, noisy: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """Predicted noise [N, C, H, W] of noisy images in about [-1, 1] at timesteps [N]; by the averaged weights.

        Args:
            noisy: [N, C, H, W].
            timestep: [N].
            label: [N] classes that the network is told, K for none; has no say where the network is not conditional.
        """
        return self._predicted(self.average, noisy, timestep, label)

    def _predicted(self, network: nn.Module, noisy: Tensor, timestep: Tensor, label: Tensor | None) -> Tensor:
        if self.no_class is None:
            return network(noisy, timestep).sample
        told = torch.full_like(timestep, self.no_class) if label is None else label
        return network(noisy, timestep, told).sample

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        """One step on ``(image, ...)``, or ``(image, label, ...)`` if conditional."""
        image = 2 * batch[0] - 1
        noise = torch.randn_like(image)
        timestep = torch.randint(len(self.scheduler.betas), (len(image),), device=image.device)
        noisy, label = self.scheduler.add_noise(image, noise, timestep), None
        if self.no_class is not None:
            untold = torch.rand(len(image), device=image.device) < self.unguided
            label = torch.where(untold, self.no_class, batch[1])
        loss = F.mse_loss(self._predicted(self.network, noisy, timestep, label), noise)
        self.log_train_loss(loss, len(image))
        return loss

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        """The same loss of the averaged weights, with noise that is always the same."""
        image = 2 * batch[0] - 1
        generator = torch.Generator().manual_seed(batch_idx)
        noise = torch.randn(image.shape, generator=generator).to(image)
        timestep = torch.randint(len(self.scheduler.betas), (len(image),), generator=generator).to(image.device)
        label = None if self.no_class is None else batch[1]
        loss = F.mse_loss(self(self.scheduler.add_noise(image, noise, timestep), timestep, label), noise)
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(image))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on the weights that are trained."""
        return torch.optim.Adam(self.network.parameters(), lr=self.lr)

    def optimizer_step(self, *given: object, **named: object) -> None:
        """Step, and average the weights: a checkpoint of this step, which callbacks write, holds both."""
        super().optimizer_step(*given, **named)
        self.average.update_parameters(self.network)

    def on_fit_end(self) -> None:
        """Write the pipeline to ``export``."""
        if self.export is not None and not self.trainer.fast_dev_run:
            self.save_pretrained(self.export)

    def save_pretrained(self, folder: str) -> None:
        """Write averaged network and scheduler as a ``DDPMPipeline`` (safetensors), which ``Diffusion`` reads.

        In a run every rank calls it, and rank zero writes.
        """
        from diffusers import DDPMPipeline

        pipeline = DDPMPipeline(unet=whole(self.average.module), scheduler=self.scheduler)
        if self.global_rank == 0:
            replace_folder(folder, lambda new: pipeline.save_pretrained(new, safe_serialization=True))
