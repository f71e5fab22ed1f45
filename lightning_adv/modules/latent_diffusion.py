"""Training of a text-conditioned latent diffusion model (Rombach et al., 2022) on template captions of class names.

first    |x - decode(z)|^2 + kl KL(q(z|x) | N(0, 1)),    z ~ q(z|x)
then     |e - network(sqrt(a(t)) z + sqrt(1 - a(t)) e, t, text(c))|^2,    t uniform, e ~ N(0, 1)
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
from lightning_adv.modules.templates import CaptionTemplates, clip_tokenizer
from lightning_adv.purifiers.captions import in_colour
from lightning_adv.purifiers.pretrained import check_fits, without_progress_bars

__all__ = ["LatentDiffusionModule"]

LATENT_CHANNELS = 4


class LatentDiffusionModule(Resumable, LightningModule):
    """A small Stable Diffusion: autoencoder, text encoder and denoising network, trained from nothing in one run.

    One ``train.py fit`` does all: the first ``autoencoder_epochs`` epochs train the autoencoder, which then stays as it
    is; the other epochs train network and text encoder on its latents, their weights averaged over training (EMA).
    After ``fit`` everything is written to ``export`` as a ``StableDiffusionImg2ImgPipeline``, from where the purifier
    ``LanguageGuidedDiffusion`` (or diffusers itself) reads it. As in the real checkpoints, images are RGB; grey ones
    are repeated. With several processes, parts that rest need ``--trainer.strategy=ddp_find_unused_parameters_true``,
    or ``ModelParallelStrategy`` (``configs/strategies/fsdp.yaml``), which spreads all networks over them.

    ``forward`` predicts the noise of latents. From the command line, what describes the data is taken from it.

    Args:
        templates: of captions, with ``{}`` where the class name goes; one is drawn for every image.
        autoencoder_epochs: of the run that train the autoencoder.
        autoencoder_channels: of the autoencoder's levels; each after the first halves the image.
        channels: of the network's levels; each has cross-attention, each after the first halves the latents.
        text_width: of the text encoder.
        timesteps: of the diffusion.
        unguided: share of images that are trained without a caption, for guidance.
        kl: weight of the latents' KL divergence.
        ema: decay of the average over steps.
        lr: of Adam.
        export: folder for the pipeline at the end of ``fit``; None for none.
        class_names: names of the classes.
        in_channels: C of the images, 1 or 3.
        image_size: (H, W) of the images.

    Raises:
        InputError: a value out of range, images that cannot be halved often enough, a run that ends before the network
            is trained.

    Example:
        >>> small = {"autoencoder_channels": (8, 8), "channels": (8,), "text_width": 8}
        >>> module = LatentDiffusionModule(class_names=["cat", "dog"], in_channels=1, image_size=(8, 8), **small)
        >>> module.templates.all()
        ['a photo of a cat', 'a photo of a dog']
    """

    def __init__(
        self,
        templates: list[str] = ["a photo of a {}"],  # noqa: B006 (the command line shows it)
        autoencoder_epochs: int = 2,
        autoencoder_channels: tuple[int, ...] = (16, 32, 64),
        channels: tuple[int, ...] = (64,),
        text_width: int = 64,
        timesteps: int = 1000,
        unguided: float = 0.1,
        kl: float = 1e-4,
        ema: float = 0.995,
        lr: float = 1e-3,
        export: str | None = None,
        class_names: list[str] | None = None,
        in_channels: int | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if in_channels is None or image_size is None or class_names is None:
            raise InputError(
                "LatentDiffusionModule needs class_names, in_channels and image_size; with --data they come from the "
                "data"
            )
        if any(
            not each or any(width % 8 for width in each) for each in (autoencoder_channels, channels, (text_width,))
        ):
            raise InputError(f"channels must be multiples of 8: {autoencoder_channels}, {channels}, {text_width}")
        if not 0 <= ema < 1 or lr <= 0 or timesteps < 2 or not 0 <= unguided < 1 or kl < 0 or autoencoder_epochs < 1:
            raise InputError(
                "ema and unguided must lie in [0, 1), lr be positive, kl not negative, timesteps at least 2 and "
                f"autoencoder_epochs at least 1; got {ema}, {unguided}, {lr}, {kl}, {timesteps}, {autoencoder_epochs}"
            )
        factor = 2 ** (len(autoencoder_channels) - 1)
        in_colour(torch.empty(0, in_channels, *image_size))
        check_fits("LatentDiffusionModule", (1, in_channels, *image_size), in_channels, factor)
        self.save_hyperparameters()
        self.templates = CaptionTemplates(templates, class_names)
        self.tokenizer = clip_tokenizer(self.templates.all())
        self.autoencoder = _autoencoder(autoencoder_channels)
        self.denoiser = nn.ModuleDict(
            {
                "unet": _unet(channels, text_width, tuple(side // factor for side in image_size)),
                "text": _text_encoder(self.tokenizer, text_width),
            }
        )
        self.average = AveragedModel(self.denoiser, multi_avg_fn=get_ema_multi_avg_fn(ema)).requires_grad_(False)
        self.register_buffer("scale", torch.zeros(()))  # of latents; zero while there is none
        self.scheduler = _scheduler(timesteps)
        self.autoencoder_epochs, self.unguided, self.kl = autoencoder_epochs, unguided, kl
        self.lr, self.export = lr, export
        self.train_loss = MeanMetric(nan_strategy="disable")

    def configure_model(self) -> None:
        """Spread the networks where the strategy asks for it."""
        for part in self.autoencoder.children():  # it is run by encode and decode, which give no plain tensors
            shard(part, self.device_mesh)
        for part in (self.denoiser, self.average.module):
            shard(part["unet"], self.device_mesh)
            shard(part["text"], self.device_mesh)

    def forward(self, noisy: Tensor, timestep: Tensor, captions: list[str]) -> Tensor:
        """Predicted noise of noisy latents [N, 4, h, w] at timesteps [N] with N captions; by the averaged weights."""
        return self._predicted(self.average.module, noisy, timestep, captions)

    def on_fit_start(self) -> None:
        """Refuse a run without a second stage."""
        super().on_fit_start()
        epochs = self.trainer.max_epochs
        if epochs is not None and 0 <= epochs <= self.autoencoder_epochs and not self.trainer.fast_dev_run:
            raise InputError(
                f"{epochs} epochs end before the network is trained: the first {self.autoencoder_epochs} are the "
                "autoencoder's; raise trainer.max_epochs or lower model.autoencoder_epochs"
            )

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        """One step on ``(image, label, ...)``, of the autoencoder or of the network."""
        image = 2 * in_colour(batch[0]) - 1
        if self.current_epoch < self.autoencoder_epochs:
            loss = self._autoencoding(image)
        else:
            captions = self.templates.drawn(batch[1])
            untold = torch.rand(len(captions)) < self.unguided
            captions = ["" if alone else said for alone, said in zip(untold.tolist(), captions, strict=True)]
            loss = self._denoising(self.denoiser, image, captions, None)
        self.log_train_loss(loss, len(image))
        return loss

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        """Mean squared error of reconstructions; once the network is trained, its loss with noise always the same."""
        image = 2 * in_colour(batch[0]) - 1
        posterior = self.autoencoder.encode(image).latent_dist
        restored = self.autoencoder.decode(posterior.mode()).sample
        self.log("val/error", F.mse_loss(restored, image) / 4, prog_bar=True, sync_dist=True, batch_size=len(image))
        if self.scale > 0:
            generator = torch.Generator().manual_seed(batch_idx)
            captions = self.templates.first(batch[1])
            loss = self._denoising(self.average.module, image, captions, generator)
            self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(image))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on all weights that are trained; those without a gradient rest."""
        return torch.optim.Adam([*self.autoencoder.parameters(), *self.denoiser.parameters()], lr=self.lr)

    def optimizer_step(self, *given: object, **named: object) -> None:
        """Step, and average the weights of the network once it is trained, before callbacks write a checkpoint."""
        super().optimizer_step(*given, **named)
        if self.current_epoch >= self.autoencoder_epochs:
            self.average.update_parameters(self.denoiser)

    def on_fit_end(self) -> None:
        """Write the pipeline to ``export``."""
        if self.export is not None and not self.trainer.fast_dev_run:
            self.save_pretrained(self.export)

    def save_pretrained(self, folder: str) -> None:
        """Write a ``StableDiffusionImg2ImgPipeline`` (safetensors), which ``LanguageGuidedDiffusion`` reads.

        In a run every rank calls it, and rank zero writes.
        """
        from diffusers import StableDiffusionImg2ImgPipeline

        average = self.average.module
        autoencoder, text, unet = (whole(each) for each in (self.autoencoder, average["text"], average["unet"]))
        if self.global_rank != 0:
            return
        autoencoder.register_to_config(scaling_factor=float(self.scale) or 1.0)
        pipeline = StableDiffusionImg2ImgPipeline(
            vae=autoencoder,
            text_encoder=text,
            tokenizer=self.tokenizer,
            unet=unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
        with without_progress_bars():
            replace_folder(folder, lambda new: pipeline.save_pretrained(new, safe_serialization=True))

    def _autoencoding(self, image: Tensor) -> Tensor:
        posterior = self.autoencoder.encode(image).latent_dist
        restored = self.autoencoder.decode(posterior.sample()).sample
        return F.mse_loss(restored, image) + self.kl * posterior.kl().mean() / posterior.mean[0].numel()

    def _denoising(
        self, denoiser: nn.ModuleDict, image: Tensor, captions: list[str], generator: torch.Generator | None
    ) -> Tensor:
        with torch.no_grad():
            latents = self._latents(image, generator)
        device = latents.device if generator is None else "cpu"
        noise = torch.randn(latents.shape, device=device, generator=generator).to(latents)
        steps = len(self.scheduler.betas)
        timestep = torch.randint(steps, (len(latents),), device=device, generator=generator).to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        return F.mse_loss(self._predicted(denoiser, noisy, timestep, captions), noise)

    def _latents(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """Scaled latents, of standard deviation 1 over the first batch that is asked for; the mean in validation."""
        posterior = self.autoencoder.encode(image).latent_dist
        latents = posterior.sample() if generator is None else posterior.mode()
        if self.scale == 0:
            self.scale.copy_(1 / self.all_gather(latents.std()).mean())
        return latents * self.scale

    def _predicted(self, denoiser: nn.ModuleDict, noisy: Tensor, timestep: Tensor, captions: list[str]) -> Tensor:
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        text = denoiser["text"](tokens.to(noisy.device)).last_hidden_state
        return denoiser["unet"](noisy, timestep, text).sample


def _autoencoder(channels: tuple[int, ...]) -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=tuple(channels),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def _unet(channels: tuple[int, ...], text_width: int, size: tuple[int, int]) -> nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=size if size[0] != size[1] else size[0],
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        block_out_channels=tuple(channels),
        layers_per_block=1,
        cross_attention_dim=text_width,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def _text_encoder(tokenizer: object, width: int) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=max(1, width // 16),
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _scheduler(timesteps: int) -> object:
    """The noise of Stable Diffusion."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=timesteps,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
