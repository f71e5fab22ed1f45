"""What a text-conditioned purifier is told about an image."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_adv.asking import NO_CLASS, logits_of, predicted
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.errors import InputError

__all__ = ["ConstantPrompt", "PredictedClass", "Prompter"]


class Prompter(nn.Module, ABC):
    """From images to texts: ``prompter(x) -> list[str]``. A sample's text does not depend on its batch.

    It is a module only for the weights that some of them hold; these are frozen. Texts are discrete: no gradient goes
    through them, and an attacker's gradient holds them fixed within a step.

    Example:
        >>> class Brightness(Prompter):
        ...     def prompts(self, x, keep):
        ...         return ["bright" if image.mean() > 0.5 else "dark" for image in x]
        >>> Brightness()(torch.zeros(1, 1, 2, 2))
        ['dark']
    """

    @abstractmethod
    def prompts(self, x: Tensor, keep: bool) -> list[str]:
        """One text an image of float32 images [N, C, H, W] in [0, 1]; ``keep`` as in calling."""

    def forward(self, x: Tensor, keep: bool = False) -> list[str]:
        """One text an image.

        Args:
            x: images [N, C, H, W], float in [0, 1].
            keep: whether these images come again, so that what was said of them is worth keeping; an attacker's do not.
        """
        with torch.no_grad():
            return self.prompts(x.detach().float(), keep)


class ConstantPrompt(Prompter):
    """The same text for every image; the empty one is no guidance by language.

    With the name of a class it is what an oracle would say of the images of that class: the ablation with true labels
    purifies class by class, one prompt each, as ``experiments/lgap/`` does.

    Args:
        text: the text.

    Example:
        >>> ConstantPrompt("a photo of the digit 7")(torch.zeros(2, 1, 4, 4))
        ['a photo of the digit 7', 'a photo of the digit 7']
    """

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.text = text

    def prompts(self, x: Tensor, keep: bool) -> list[str]:
        """``text``."""
        return [self.text] * len(x)

    def extra_repr(self) -> str:
        """The text."""
        return repr(self.text)


class PredictedClass(Prompter):
    """The name of the class that a classifier sees, in a template: the ablation with labels that need no oracle.

    Args:
        classifier: images [N, C, H, W] in [0, 1] to logits [N, K].
        class_names: [K] names.
        template: with ``{}`` where the name goes.

    Raises:
        InputError: a template without ``{}``; at the call, a classifier of another number of classes.

    Example:
        >>> classifier = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> _ = nn.init.zeros_(classifier[1].weight), classifier[1].bias.data.copy_(torch.tensor([0.0, 1.0]))
        >>> PredictedClass(classifier, ["cat", "dog"], "a photo of a {}")(torch.rand(1, 1, 2, 2))
        ['a photo of a dog']
    """

    def __init__(self, classifier: nn.Module, class_names: list[str], template: str = "a photo of a {}") -> None:
        super().__init__()
        if template.count("{}") != 1:
            raise InputError(f"a template holds one {{}}, where the class goes; got {template!r}")
        self.classifier, self.class_names, self.template = classifier, class_names, template

    def prompts(self, x: Tensor, keep: bool) -> list[str]:
        """The template with the name of the predicted class; nothing where the logits are NaN."""
        with leaves_no_trace(self.classifier), torch.no_grad():
            logits = logits_of(self.classifier, x.clone())
        if logits.shape[1] != len(self.class_names):
            raise InputError(f"the classifier has {logits.shape[1]} classes, class_names {len(self.class_names)}")
        said = predicted(logits).tolist()
        return ["" if k == NO_CLASS else self.template.format(self.class_names[k]) for k in said]
