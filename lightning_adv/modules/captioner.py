"""Training of an image captioner (BLIP; Li et al., 2022) on template captions of class names.

-sum_i log p(w_i | w_1 ... w_{i-1}, image)
"""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torchmetrics import MeanMetric

from lightning_adv.errors import InputError
from lightning_adv.files import replace_folder
from lightning_adv.modules.resumable import Resumable
from lightning_adv.modules.templates import CaptionTemplates, bert_tokenizer
from lightning_adv.purifiers.captions import caption_tokens, in_colour
from lightning_adv.purifiers.pretrained import without_progress_bars

__all__ = ["CaptionerModule"]

IGNORED = -100
"""A label that costs nothing."""


class CaptionerModule(Resumable, LightningModule):
    """A small BLIP that learns to say what is on an image, from templates filled with the class names.

    ``forward`` maps images in [0, 1] to captions. After ``fit`` model and processor are written to ``export`` as
    transformers folders, from where ``Captions`` reads them, the prompts of ``LanguageGuidedDiffusion``. From the
    command line, what describes the data is taken from it.

    Args:
        templates: of captions, with ``{}`` where the class name goes; one is drawn for every image.
        patch: side of the square patches that an image is cut into.
        width: of both transformers.
        layers: of each.
        lr: of AdamW.
        export: folder at the end of ``fit``; None for none.
        class_names: names of the classes.
        in_channels: C of the images, 1 or 3.
        image_size: (H, W) of the images; the model sees squares, the longer side rounded up to whole patches.

    Raises:
        InputError: a value out of range, images that are neither grey nor RGB.

    Example:
        >>> module = CaptionerModule(class_names=["cat", "dog"], in_channels=1, image_size=(8, 8), width=8, layers=1)
        >>> len(module(torch.rand(2, 1, 8, 8)))
        2
    """

    def __init__(
        self,
        templates: list[str] = ["a photo of a {}"],  # noqa: B006 (the command line shows it)
        patch: int = 4,
        width: int = 64,
        layers: int = 3,
        lr: float = 1e-3,
        export: str | None = None,
        class_names: list[str] | None = None,
        in_channels: int | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if in_channels is None or image_size is None or class_names is None:
            raise InputError(
                "CaptionerModule needs class_names, in_channels and image_size; with --data they come from the data"
            )
        if patch < 1 or width < 8 or width % 8 or layers < 1 or lr <= 0:
            raise InputError(
                "patch and layers must be at least 1, width a multiple of 8, lr positive; got "
                f"{patch}, {layers}, {width}, {lr}"
            )
        in_colour(torch.empty(0, in_channels, *image_size))
        self.save_hyperparameters()
        from transformers import BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

        self.templates = CaptionTemplates(templates, class_names)
        side = -(-max(image_size) // patch) * patch
        size = {"height": side, "width": side}
        self.processor = BlipProcessor(BlipImageProcessor(size=size), bert_tokenizer(self.templates.all()))
        self.network = BlipForConditionalGeneration(_config(self.processor.tokenizer, side, patch, width, layers))
        self.lr, self.export = lr, export
        self.train_loss = MeanMetric(nan_strategy="disable")

    def forward(self, image: Tensor) -> list[str]:
        """Captions of images [N, C, H, W] in [0, 1], each word the likeliest next one."""
        tokens = self.network.generate(self._pixels(image), max_length=32, do_sample=False, num_beams=1)
        return self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        """One step on ``(image, label, ...)``."""
        loss = self._loss(batch[0], self.templates.drawn(batch[1]))
        self.log_train_loss(loss, len(batch[0]))
        return loss

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        """Loss of the first template, and the share of captions that name the class."""
        image, label = batch[0], batch[1]
        self.log("val/loss", self._loss(image, self.templates.first(label)), sync_dist=True, batch_size=len(image))
        named = torch.tensor(self.templates.names(label, self(image)), dtype=torch.float32, device=image.device)
        self.log("val/named", named.mean(), prog_bar=True, sync_dist=True, batch_size=len(image))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)

    def on_fit_end(self) -> None:
        """Write model and processor to ``export``."""
        if self.export is not None and self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            self.save_pretrained(self.export)

    def save_pretrained(self, folder: str) -> None:
        """Write model (safetensors) and processor as a transformers folder, which ``Captions`` reads."""
        with without_progress_bars():
            replace_folder(folder, lambda new: [each.save_pretrained(new) for each in (self.network, self.processor)])

    def _loss(self, image: Tensor, captions: list[str]) -> Tensor:
        tokens = {name: value.to(image.device) for name, value in self._tokens(captions).items()}
        labels = tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, IGNORED)
        return self.network(self._pixels(image), **tokens, labels=labels).loss

    def _tokens(self, captions: list[str]) -> dict[str, Tensor]:
        tokens = caption_tokens(self.processor.tokenizer, captions)
        tokens["input_ids"][:, 0] = self.network.config.text_config.bos_token_id  # as generate begins
        return tokens

    def _pixels(self, image: Tensor) -> Tensor:
        processed = self.processor(images=in_colour(image), return_tensors="pt", do_rescale=False)
        return processed.pixel_values.to(image.device)


def _config(tokenizer: object, side: int, patch: int, width: int, layers: int) -> object:
    from transformers import BlipConfig

    shape = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 16),
        "initializer_range": 0.5 * width**-0.5,  # BLIP's own suit its size; that of its image encoder is all but zero
    }
    text = {
        "vocab_size": len(tokenizer),
        "encoder_hidden_size": width,
        "projection_dim": width,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return BlipConfig(
        text_config=shape | text,
        vision_config=shape | {"image_size": side, "patch_size": patch},
        projection_dim=width,
        image_text_hidden_size=width,
    )
