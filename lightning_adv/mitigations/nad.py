"""Neural attention distillation (Li et al., 2021): a fine-tuned copy teaches the model where to look.

    minimise  CE( f(x), y ) + sum_l beta_l  mean | A_l(x) / |A_l(x)| - A'_l(x) / |A'_l(x)| |^2,    A = sum_c F_c^2

with the maps F of C channels that the model has at stage l, F' those of the teacher, and norms over the positions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import Classifier, at_weights, logits_of
from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations.channels import Norm, ran
from lightning_adv.mitigations.mitigation import Mitigation, Repair

__all__ = ["NAD"]


class NAD(Mitigation):
    """Fine-tunes a copy, and then the model itself towards the copy's attention.

    Stages are found by the sizes of maps: of each of the last sizes, the last convolution or BatchNorm that runs.

    Args:
        betas: weights of the stages' distances, the deepest last; a network with fewer sizes uses the last ones.
        epochs: of the teacher's fine-tuning, and again of the distillation.
        lr, batch_size, held_out, seed: see :class:`Mitigation`.

    Raises:
        InputError: numbers that cannot be meant; in a call, a model without maps of at least two positions.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        >>> NAD(epochs=1)(model, [(torch.rand(20, 1, 4, 4), torch.arange(20) % 3)]).tuned_on
        16
    """

    def __init__(
        self,
        betas: Sequence[float] = (500.0, 1000.0, 1000.0),
        epochs: int = 10,
        lr: float | None = None,
        batch_size: int = 64,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(epochs, lr, batch_size, held_out, seed)
        if not betas or min(betas) < 0:
            raise InputError(f"NAD needs betas of at least one stage, none of them negative, got {list(betas)}")
        self.betas = tuple(betas)

    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Tune the teacher, put the model back, distil."""
        layers = stages(model, images.image[:1])[-len(self.betas) :]
        betas = self.betas[-len(layers) :]
        start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        warnings = self.fine_tune(model, images)
        taught = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        teacher = at_weights(model, taught)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(start[name])

        def loss(x: Tensor, y: Tensor) -> Tensor:
            with torch.no_grad():
                _, goals = _looked(teacher, layers, x)
            logits, maps = _looked(model, layers, x)
            apart = (beta * (own - goal).square().mean() for beta, own, goal in zip(betas, maps, goals, strict=True))
            return F.cross_entropy(logits, y) + sum(apart)

        return Repair(warnings=(*warnings, *self.fine_tune(model, images, loss)))


def stages(model: nn.Module, image: Tensor) -> list[nn.Module]:
    """The last convolution or BatchNorm of every size of maps, from the first size to the last.

    Args:
        model: in eval mode.
        image: [1, C, H, W] that is sent through it.

    Raises:
        InputError: no layer makes maps.
    """
    last: dict[tuple[int, ...], nn.Module] = {}

    def note(module: nn.Module, _: Tensor, output: Tensor) -> None:
        if output.shape[2:].numel() > 1:
            last.pop(tuple(output.shape[2:]), None)
            last[tuple(output.shape[2:])] = module

    ran(model, image, (nn.Conv2d, Norm), note)
    if not last:
        raise InputError("NAD compares where maps are active, and no nn.Conv2d of the model makes any")
    return list(last.values())


def attention(maps: Tensor) -> Tensor:
    """[N, H W] sums of squares over the channels of maps [N, C, H, W], of length 1 for every image."""
    return F.normalize(maps.float().square().sum(dim=1).flatten(1), dim=1)


def _looked(model: Classifier, layers: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the attention of every layer."""
    with _kept(layers) as maps:
        logits = logits_of(model, x)
        return logits, [attention(maps[layer]) for layer in layers]


@contextmanager
def _kept(layers: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What the layers made last, while it lasts."""
    maps: dict[nn.Module, Tensor] = {}
    hooks = [each.register_forward_hook(lambda module, _, output: maps.update({module: output})) for each in layers]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
