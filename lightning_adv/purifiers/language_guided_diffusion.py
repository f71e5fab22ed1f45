"""Language Guided Adversarial Purification (LGAP; Singh and Subramanyam, 2024).

c = caption(x),    z = noise(encode(x), t*),    x_hat = decode(denoise(z, c))

with guidance g:    e = e(z, t, "") + g (e(z, t, c) - e(z, t, ""))
"""

import copy
from functools import partial
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.denoising import NoiseSchedule
from lightning_adv.purifiers.pretrained import check_chunk, check_fits, load_parts, load_pretrained, load_settings
from lightning_adv.purifiers.prompts import ConstantPrompt, Prompter
from lightning_adv.purifiers.purifier import Purifier, into_the_box

__all__ = ["LanguageGuidedDiffusion"]

TOKENS = 77
"""Of a prompt; what both pipelines give their network."""


class LanguageGuidedDiffusion(Purifier):
    """Images drowned in noise in a latent space and denoised by a diffusion model that is told what they show.

    What diffusers' ``StableDiffusionImg2ImgPipeline`` computes, with noise that knows no batch and with gradients:
    exact ones for fixed prompts, those of the network computed again step by step. A new image is described anew.

    Args:
        path: folder of a Stable Diffusion pipeline (``vae``, ``unet``, ``text_encoder``, ``tokenizer``,
            ``scheduler``), as ``LatentDiffusionModule`` exports it, or of the latent diffusion model before it, whose
            prompts a BERT reads (``vqvae``, ``bert`` in place of ``vae``, ``text_encoder``), or a hub id.
        prompts: what is said of an image: ``Captions`` as in the paper, ``ConstantPrompt`` or ``PredictedClass`` as
            ablations; default nothing.
        strength: t* as a share of the whole diffusion; the paper takes .5 on CIFAR-10, .1 on ImageNet.
        steps: evaluations of the network; the paper's 50 steps at strength .5 are 25.
        guidance: weight g of the prompt; 1 leaves out the evaluations without one, which halves the cost.
        scheduler: class of diffusers, e.g. "DDIMScheduler".
        size: images are brought to this many pixels a side before, and back after; None leaves them as they are.
        seed: of the noise.
        chunk: images that the network sees at a time; more fill a GPU. Results for one chunk have equal bits in batches
            of any size.
        local_files_only: never ask the hub.

    Raises:
        InputError: a value out of range, an unknown scheduler, a folder or model that cannot be loaded; at the call,
            images that are neither grey nor RGB, or of a size that the encoder cannot halve.

    Example:
        >>> import tempfile
        >>> from lightning_adv.modules import LatentDiffusionModule
        >>> small = {"autoencoder_channels": (8, 8), "channels": (8,), "text_width": 8}
        >>> module = LatentDiffusionModule(class_names=["cat", "dog"], in_channels=1, image_size=(8, 8), **small)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     module.save_pretrained(folder)
        ...     purifier = LanguageGuidedDiffusion(folder, ConstantPrompt("a photo of a cat"), steps=2)
        >>> purifier(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    randomised = True

    def __init__(
        self,
        path: str,
        prompts: Prompter | None = None,
        strength: float = 0.5,
        steps: int = 4,
        guidance: float = 5.0,
        scheduler: str = "DDIMScheduler",
        size: int | None = None,
        seed: int = 0,
        chunk: int = 8,
        local_files_only: bool = False,
    ) -> None:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        super().__init__(seed)
        self.chunk = check_chunk(chunk)
        if guidance < 0:
            raise InputError(f"guidance must not be negative, got {guidance}; 0 ignores the prompt, 1 follows it")
        self.path, self.prompts, self.strength, self.steps = path, prompts or ConstantPrompt(), strength, steps
        self.guidance, self.scheduler, self.size, self.local_files_only = guidance, scheduler, size, local_files_only
        parts = load_parts(path, local_files_only)
        autoencoder, text = ("vqvae", "bert") if "bert" in parts else ("vae", "text_encoder")
        encoder, tokenizer = _readers(path, parts.get(text))
        self.autoencoder = load_pretrained(AutoencoderKL, path, autoencoder, local_files_only)
        self.network = load_pretrained(UNet2DConditionModel, path, "unet", local_files_only)
        self.text_encoder = load_pretrained(encoder, path, text, local_files_only)
        self.tokenizer = load_settings(tokenizer, path, "tokenizer", local_files_only)
        self.schedule = NoiseSchedule(path, scheduler, strength, steps, local_files_only, "strength")
        self._check(self.autoencoder.config.in_channels, size or self.factor, size or self.factor)

    @property
    def factor(self) -> int:
        """How much smaller latents are than images."""
        return 2 ** (len(self.autoencoder.config.block_out_channels) - 1)

    def told(self, prompts: Prompter) -> Self:
        """The same purifier under other prompts; the networks are shared."""
        other = copy.copy(self)
        other._modules = self._modules | {"prompts": prompts}
        return other

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """Encoded, noised to t*, denoised in ``steps`` steps by the prompt, decoded."""
        self._check(x.shape[1], self.size or x.shape[2], self.size or x.shape[3])
        # the draws of attackers are negative, and their images do not come again
        prompts = self.prompts(x, keep=noise.restart >= 0)
        predict = partial(self._predicted, said=self._encoded(prompts), unsaid=self._encoded([""] * len(x)))
        scale = self.autoencoder.config.scaling_factor
        posterior = self.autoencoder.encode(2 * self._enlarged(x) - 1).latent_dist
        latents = scale * (posterior.mean + posterior.std * noise.normal(posterior.mean))
        latents = self.schedule.purify(latents, noise, predict)
        decoded = (self.autoencoder.decode(latents / scale).sample + 1) / 2
        purified = _resized(decoded, *x.shape[2:])
        return purified.mean(dim=1, keepdim=True) if x.shape[1] == 1 else purified

    def _check(self, channels: int, height: int, width: int) -> None:
        expected = self.autoencoder.config.in_channels
        channels = expected if channels == 1 else channels  # grey images are repeated
        try:
            check_fits("the latent diffusion model", (1, channels, height, width), expected, self.factor)
        except InputError as error:
            remedy = f"; set size to a multiple of {self.factor}" if channels == expected else ""
            raise InputError(f"{error}{remedy}") from error

    def _enlarged(self, x: Tensor) -> Tensor:
        x = x.expand(-1, self.autoencoder.config.in_channels, -1, -1)
        return x if self.size is None else into_the_box(_resized(x, self.size, self.size))

    def _encoded(self, prompts: list[str]) -> Tensor:
        """[N, T, D] of N prompts; equal ones are not put together, for the bits depend on how many there are."""
        length = min(self.tokenizer.model_max_length, TOKENS)
        with torch.no_grad():
            tokens = self.tokenizer(
                prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            )
            return self.text_encoder(tokens.input_ids.to(self.text_encoder.device)).last_hidden_state

    def _predicted(self, z: Tensor, timestep: Tensor, said: Tensor, unsaid: Tensor) -> Tensor:
        if self.guidance == 1:
            return self.network(z, timestep, said).sample
        both = self.network(torch.cat([z, z]), timestep, torch.cat([unsaid, said])).sample
        without, told = both.chunk(2)
        return without + self.guidance * (told - without)


def _readers(path: str, name: str | None) -> tuple[type[nn.Module], type]:
    """Text encoder and tokenizer of the kind that a pipeline names; without a name CLIP's."""
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
    from transformers import BertModel, BertTokenizer, CLIPTextModel, CLIPTokenizer

    kinds = {CLIPTextModel: CLIPTokenizer, LDMBertModel: BertTokenizer, BertModel: BertTokenizer}
    found = next((kind for kind in kinds if kind.__name__ == (name or CLIPTextModel.__name__)), None)
    if found is None:
        known = ", ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{path}: prompts are read by a {name}; this purifier knows {known}")
    return found, kinds[found]


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bicubic", antialias=True)
