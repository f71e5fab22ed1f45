"""Feature shift tuning (Min et al., 2023): the head is drawn anew and held away from the one that knew the backdoor.

    minimise  CE( f(x), y ) + alpha <W, W_0>,    |W| = |W_0| after every step,    W drawn from U(-1/sqrt(d), 1/sqrt(d))

with the weights W of the last layer, W_0 as they came, d inputs. Features must then move to serve the new head, and
those that only the trigger served have nothing to move for.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations.channels import ran
from lightning_adv.mitigations.mitigation import Mitigation, Repair

__all__ = ["FST"]


class FST(Mitigation):
    """Fine-tunes all of the model with a head of new directions and the old length.

    The head is the layer that gives the logits, whatever its name.

    The rate decides whether a backdoor goes or hides. On digits, what was mended at the paper's .01 mostly stayed so
    when it was trained on with a few poisoned images; at the gentler rate that clean images choose it mostly did not.

    It asks for thousands of images where classes are hard. With 500, two fifths of a small CIFAR-10 network's clean
    accuracy went at any rate; with ``alpha`` .05 a quarter did, and a few poisoned images brought the backdoor back.

    Args:
        alpha: what likeness to the old head costs; the paper takes .2, and less for many classes.
        epochs, lr, batch_size, held_out, seed: see :class:`Mitigation`.

    Raises:
        InputError: numbers that cannot be meant; in a call, a model whose logits no trainable linear layer or
            convolution gives.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> FST(epochs=1)(model, [(torch.rand(20, 1, 2, 2), torch.arange(20) % 3)]).tuned_on
        16
    """

    def __init__(
        self,
        alpha: float = 0.2,
        epochs: int = 20,
        lr: float | None = None,
        batch_size: int = 32,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(epochs, lr, batch_size, held_out, seed)
        if alpha < 0:
            raise InputError(f"FST needs alpha >= 0, got {alpha}")
        self.alpha = alpha

    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Draw the head anew, fine-tune everything."""
        weight = head(model, images.image[:1]).weight
        if not weight.requires_grad:
            raise InputError("FST draws the head anew, and the model's is frozen: let its weight be trained")
        old, inputs = weight.detach().clone(), weight[0].numel()
        drawn = torch.rand(weight.shape, generator=torch.Generator().manual_seed(self.seed))

        @torch.no_grad()
        def as_long() -> None:
            weight.mul_(old.float().norm() / weight.float().norm())

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(logits_of(model, x), y) + self.alpha * (weight.float() * old.float()).sum()

        with torch.no_grad():
            weight.copy_((2 * drawn - 1) / inputs**0.5)
        as_long()
        return Repair(warnings=self.fine_tune(model, images, loss, as_long))


def head(model: nn.Module, image: Tensor) -> nn.Linear | nn.Conv2d:
    """The last linear layer or convolution that runs.

    Args:
        model: in eval mode.
        image: [1, C, H, W] that is sent through it.

    Raises:
        InputError: none runs, or the last one makes something else than a number a class.
    """
    layers: list[tuple[nn.Module, Tensor]] = []
    ran(model, image, (nn.Linear, nn.Conv2d), lambda module, _, output: layers.append((module, output)))
    with torch.no_grad():
        classes = logits_of(model, image).shape[1]
    if not layers or layers[-1][1].shape[1] != classes:
        raise InputError(f"FST needs a head: the last nn.Linear or nn.Conv2d must give the {classes} logits")
    return layers[-1][0]
