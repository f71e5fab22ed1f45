"""Image captions (BLIP; Li et al., 2022) as prompts: the language of language-guided purification."""

from pathlib import Path

import torch
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.pixels import digests
from lightning_adv.purifiers.caption_log import CaptionLog
from lightning_adv.purifiers.fingerprint import fingerprint
from lightning_adv.purifiers.pretrained import load_pretrained, load_settings
from lightning_adv.purifiers.prompts import Prompter

__all__ = ["Captions", "caption_tokens", "in_colour"]

COLOURS = 3
"""Captioners see RGB."""


class Captions(Prompter):
    """What a captioning model says of an image, by beam search without chance; equal images are described once.

    Args:
        path: folder of a transformers ``BlipForConditionalGeneration`` with its processor, as ``CaptionerModule``
            exports it, or a hub id such as Salesforce/blip-image-captioning-base.
        prefix: how every caption begins, e.g. "a picture of"; left out of the prompt.
        template: of the prompt, with ``{}`` where the caption goes.
        beams: of the search.
        min_length: of a caption in tokens, prefix included; LGAP's public code takes 5.
        max_length: the same.
        cache: folder where captions are kept by image hash; None for none. Images of attackers are not kept.
        local_files_only: never ask the hub.

    Raises:
        InputError: a value out of range, a folder or model that cannot be loaded; at the call, images that are neither
            grey nor RGB.

    Example:
        >>> import tempfile
        >>> from lightning_adv.modules import CaptionerModule
        >>> module = CaptionerModule(class_names=["cat", "dog"], in_channels=1, image_size=(8, 8), width=8, layers=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     module.save_pretrained(folder)
        ...     captions = Captions(folder, beams=1)
        >>> len(captions(torch.rand(2, 1, 8, 8)))
        2
    """

    def __init__(
        self,
        path: str,
        prefix: str = "",
        template: str = "{}",
        beams: int = 3,
        min_length: int = 5,
        max_length: int = 20,
        cache: str | None = None,
        local_files_only: bool = False,
    ) -> None:
        from transformers import BlipForConditionalGeneration, BlipProcessor

        super().__init__()
        if template.count("{}") != 1:
            raise InputError(f"a template holds one {{}}, where the caption goes; got {template!r}")
        if beams < 1 or not 0 <= min_length <= max_length:
            raise InputError(
                f"beams must be at least 1 and min_length at most max_length; got {beams}, {min_length}, {max_length}"
            )
        self.path, self.prefix, self.template, self.cache = path, prefix, template, cache
        self.beams, self.min_length, self.max_length = beams, min_length, max_length
        self.network = load_pretrained(BlipForConditionalGeneration, path, local_files_only=local_files_only)
        self.processor = load_settings(BlipProcessor, path, local_files_only=local_files_only)
        self._log: CaptionLog | None = None

    def prompts(self, x: Tensor, keep: bool) -> list[str]:
        """The template with the caption."""
        keys = digests(x)
        known = {key: caption for key in keys if (caption := self._kept().get(key)) is not None} if self.cache else {}
        rows = {key: row for row, key in enumerate(keys) if key not in known}
        if rows:
            found = dict(zip(rows, self._captions(x[list(rows.values())]), strict=True))
            if keep and self.cache:
                self._kept().add(found)
            known |= found
        return [self.template.format(known[key]) for key in keys]

    def extra_repr(self) -> str:
        """Hyperparameters."""
        return f"path={self.path}, prefix={self.prefix!r}, template={self.template!r}, beams={self.beams}"

    def _captions(self, x: Tensor) -> list[str]:
        pixels = self.processor(images=in_colour(x), return_tensors="pt", do_rescale=False).pixel_values.to(x.device)
        start = caption_tokens(self.processor.tokenizer, [self.prefix])["input_ids"].repeat(len(x), 1).to(x.device)
        tokens = self.network.generate(
            pixels,
            input_ids=start,  # generate writes into it
            num_beams=self.beams,
            min_length=self.min_length,
            max_length=self.max_length,
            do_sample=False,
        )
        said = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [caption.strip().removeprefix(self.prefix).strip() for caption in said]

    def _kept(self) -> CaptionLog:
        if self._log is None:
            self._log = CaptionLog(Path(self.cache) / f"captions-{fingerprint(self)}.jsonl")
        return self._log


def in_colour(x: Tensor) -> Tensor:
    """RGB images [N, 3, H, W] of grey or RGB images.

    Raises:
        InputError: another number of channels.
    """
    if x.shape[1] not in (1, COLOURS):
        raise InputError(f"a captioner needs grey or RGB images, got {x.shape[1]} channels")
    return x.expand(-1, COLOURS, -1, -1)


def caption_tokens(tokenizer: object, captions: list[str]) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` [N, T] of captions, padded behind."""
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    return {name: tokens[name].to(torch.long) for name in ("input_ids", "attention_mask")}
