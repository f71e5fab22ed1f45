"""Training of a vector-quantised auto-encoder (van den Oord et al., 2017) that purifies images.

|x - decode(q(encode(x + noise)))|^2  +  |sg[encode] - e|^2  +  beta |encode - sg[e]|^2
"""

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor
from torchmetrics import MeanMetric

from lightning_adv.errors import InputError
from lightning_adv.files import replace_folder
from lightning_adv.modules.resumable import Resumable
from lightning_adv.purifiers.pretrained import check_fits

__all__ = ["VQVAEModule"]


class VQVAEModule(Resumable, LightningModule):
    """A VQ-VAE on diffusers' ``VQModel``, with Gaussian noise on its inputs and clean images as its goal.

    ``forward`` maps images in [0, 1] to their reconstructions. After ``fit`` the network is written to ``export``, from
    where the purifier ``VQVAE`` reads it. From the command line, channels and size are taken from the data.

    Args:
        noise: standard deviation of the noise on the inputs; 0, .25 and .75 in Tan, Te and Lai (2019).
        channels: of the encoder's levels; each after the first halves the image.
        codes: of the code book, K.
        latent_channels: of a code.
        beta: weight of the commitment.
        lr: of Adam.
        export: folder for ``save_pretrained`` at the end of ``fit``; None for none.
        in_channels: C of the images.
        image_size: (H, W) of the images.

    Raises:
        InputError: a value out of range, images that cannot be halved often enough.
    """

    def __init__(
        self,
        noise: float = 0.0,
        channels: tuple[int, ...] = (32, 64),
        codes: int = 512,
        latent_channels: int = 16,
        beta: float = 1.0,
        lr: float = 2e-4,
        export: str | None = None,
        in_channels: int | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if in_channels is None or image_size is None:
            raise InputError("VQVAEModule needs in_channels and image_size; with --data they are taken from the data")
        if noise < 0 or lr <= 0 or beta < 0:
            raise InputError(f"noise and beta must not be negative, lr positive; got {noise}, {beta}, {lr}")
        if not channels or any(width % 8 for width in channels) or codes < 2:
            raise InputError(f"channels must be multiples of 8 and codes at least 2, got {list(channels)}, {codes}")
        check_fits("VQVAEModule", (1, in_channels, *image_size), in_channels, 2 ** (len(channels) - 1))
        self.save_hyperparameters()
        from diffusers import VQModel

        self.network = VQModel(
            in_channels=in_channels,
            out_channels=in_channels,
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            block_out_channels=tuple(channels),
            layers_per_block=1,
            latent_channels=latent_channels,
            num_vq_embeddings=codes,
            norm_num_groups=8,
            mid_block_add_attention=False,
        )
        self.network.quantize.legacy, self.network.quantize.beta = False, beta
        self.noise, self.lr, self.export = noise, lr, export
        self.train_loss = MeanMetric(nan_strategy="disable")

    def forward(self, image: Tensor) -> Tensor:
        """Reconstructions [N, C, H, W] of images [N, C, H, W] in [0, 1]."""
        return self._coded(image)[0].clamp(0, 1)

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        """One step on ``(image, ...)``."""
        image = batch[0]
        noisy = image + self.noise * torch.randn_like(image) if self.noise else image
        restored, commitment = self._coded(noisy)
        loss = 4 * F.mse_loss(restored, image) + commitment  # 4: the networks see [-1, 1]
        self.log_train_loss(loss, len(image))
        return loss

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        """Mean squared error of reconstructions of clean images."""
        self.log(
            "val/error", F.mse_loss(self(batch[0]), batch[0]), prog_bar=True, sync_dist=True, batch_size=len(batch[0])
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)

    def on_fit_end(self) -> None:
        """Write the network to ``export``."""
        if self.export is not None and self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            self.save_pretrained(self.export)

    def save_pretrained(self, folder: str) -> None:
        """Write the network as a diffusers folder (safetensors), which ``VQVAE(folder)`` reads."""
        replace_folder(folder, lambda new: self.network.save_pretrained(new, safe_serialization=True))

    def _coded(self, image: Tensor) -> tuple[Tensor, Tensor]:
        decoded = self.network.decode(self.network.encode(2 * image - 1).latents)
        return (decoded.sample + 1) / 2, decoded.commit_loss.mean()
