"""Captions made of templates and class names, and the tokenizers that know their words."""

import string

import torch
from torch import Tensor
from transformers import BertTokenizer, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lightning_adv.attacks.labels import as_labels
from lightning_adv.errors import InputError

__all__ = ["CaptionTemplates", "bert_tokenizer", "clip_tokenizer"]

TEXT_LENGTH = 77
"""Tokens that CLIP reads at most."""


class CaptionTemplates:
    """What could be said of an image of a class.

    Args:
        templates: with ``{}`` where the class goes.
        class_names: [K] names.

    Raises:
        InputError: no template, one without ``{}``, no class names.

    Example:
        >>> CaptionTemplates(["a photo of a {}", "a small {}"], ["cat", "dog"]).all()
        ['a photo of a cat', 'a photo of a dog', 'a small cat', 'a small dog']
    """

    def __init__(self, templates: list[str], class_names: list[str]) -> None:
        if not templates or any(each.count("{}") != 1 for each in templates):
            raise InputError(f"templates need one {{}} each, where the class goes; got {list(templates)}")
        if not class_names:
            raise InputError("captions need the names of the classes; the data has none")
        self.templates, self.class_names = list(templates), [str(name) for name in class_names]

    def all(self) -> list[str]:
        """Every template with every class."""
        return [template.format(name) for template in self.templates for name in self.class_names]

    def drawn(self, label: Tensor) -> list[str]:
        """One caption a label [N], its template drawn by the global generator."""
        chosen = torch.randint(len(self.templates), (len(label),)).tolist()
        pairs = zip(chosen, as_labels(label, len(label)).tolist(), strict=True)
        return [self.templates[t].format(self.class_names[k]) for t, k in pairs]

    def first(self, label: Tensor) -> list[str]:
        """The first template with the class of each label [N]."""
        return [self.templates[0].format(self.class_names[k]) for k in label.tolist()]

    def names(self, label: Tensor, captions: list[str]) -> list[bool]:
        """Whether each caption holds the words of its label's class name and of no longer one."""
        return [_words(self.class_names[k]) in _words(said) for k, said in zip(label.tolist(), captions, strict=True)]


def clip_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """A tokenizer of CLIP that knows all bytes, and the words of these captions as one token each where it can.

    The same captions give the same numbers (a trained vocabulary does not), so that a checkpoint can be read again.
    """
    start, end = "<|startoftext|>", "<|endoftext|>"
    letters = sorted(bytes_to_unicode().values())
    merges: dict[tuple[str, str], str] = {}
    for word in _pieces(CLIPTokenizer(), captions):
        *left, last = word
        parts = [*left, f"{last}</w>"]
        while len(parts) > 1:
            merges[parts[0], parts[1]] = joined = parts[0] + parts[1]
            parts = [joined, *parts[2:]]
    tokens = dict.fromkeys([start, end, *letters, *(f"{letter}</w>" for letter in letters), *merges.values()])
    tokenizer = CLIPTokenizer({token: number for number, token in enumerate(tokens)}, list(merges))
    longest = max(len(ids) for ids in tokenizer(captions).input_ids)
    tokenizer.model_max_length = min(TEXT_LENGTH, longest + 8)  # room for a word more than the templates have
    return tokenizer


def bert_tokenizer(captions: list[str]) -> BertTokenizer:
    """A tokenizer of BLIP that knows the words of these captions; ``[DEC]`` begins what the model says."""
    special, own = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], ["[DEC]", "[ENC]"]
    words = _pieces(BertTokenizer(), captions)
    letters = sorted({*string.ascii_lowercase, *string.digits, *string.punctuation, *"".join(words)})
    tokens = dict.fromkeys([*special, *own, *letters, *(f"##{letter}" for letter in letters), *words])
    tokenizer = BertTokenizer({token: number for number, token in enumerate(tokens)}, extra_special_tokens=own)
    tokenizer.model_max_length = TEXT_LENGTH
    return tokenizer


def _pieces(tokenizer: CLIPTokenizer | BertTokenizer, captions: list[str]) -> list[str]:
    """The words of captions as a tokenizer separates and spells them, sorted."""
    backend = tokenizer.backend_tokenizer
    normalised = (backend.normalizer.normalize_str(caption) for caption in captions)
    return sorted({piece for text in normalised for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)})


def _words(text: str) -> str:
    separated = "".join(sign if sign.isalnum() else f" {sign} " for sign in text.lower())
    return f" {' '.join(separated.split())} "
