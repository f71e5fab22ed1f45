"""Channel Lipschitzness pruning (Zheng et al., 2022): a channel that opens a backdoor is unusually sensitive.

    sigma_k = || W_k ||_2  |gamma_k| / sqrt(var_k + eps),    prune k where  sigma_k > mean(sigma) + u std(sigma)

with the kernel W_k of output channel k as a matrix of C_in rows and h w columns, and the BatchNorm that follows the
convolution; mean and standard deviation are over the channels of the layer. No image takes part in it.
"""

import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations.channels import Channels, Pruning, convolutions
from lightning_adv.mitigations.mitigation import Mitigation, Repair

__all__ = ["CLP"]

DEVIATIONS = tuple(each / 4 for each in range(24, 3, -1))
"""Values of u that are tried, 6 to 1."""


class CLP(Mitigation):
    """Zeroes the channels of every convolution with BatchNorm whose Lipschitz constant stands out from its layer's.

    Convolution and BatchNorm are paired by what flows from one into the other in a forward, not by the order in which
    modules lie; the report lists the pairs. A BatchNorm loses scale and shift of the channel. Without any such pair
    convolutions are judged by their kernels alone, and lose these.

    Args:
        u: standard deviations above the mean (3 in the paper), and then no image decides anything; None chooses the
            smallest u whose pruning costs the held-out images no more than ``accuracy_drop``.
        accuracy_drop: clean accuracy that pruning may cost where u is chosen.
        held_out, seed: see :class:`Mitigation`.

    Raises:
        InputError: numbers that cannot be meant; in a call, a model without a convolution.

    Example:
        >>> model = nn.Sequential(
        ...     nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
        ... ).eval()
        >>> report = CLP()(model, [(torch.rand(20, 1, 4, 4), torch.arange(20) % 3)])
        >>> report.repair.prunings[0].layer
        '0 + 1'
    """

    def __init__(
        self, u: float | None = None, accuracy_drop: float = 0.02, held_out: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__(0, held_out=held_out, seed=seed)
        if (u is not None and u <= 0) or not 0 <= accuracy_drop <= 1:
            raise InputError(f"CLP needs u above 0 or none, and accuracy_drop in [0, 1], got {u} and {accuracy_drop}")
        self.u, self.accuracy_drop = u, accuracy_drop

    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Prune what stands out."""
        found = convolutions(model, images.image[:1])
        found = [each for each in found if each.norm is not None] or found
        constants = [lipschitz(each) for each in found]

        def above(u: float) -> tuple[Pruning, ...]:
            chosen = [(each > each.mean() + u * each.std()).nonzero().flatten().tolist() for each in constants]
            return tuple(layer.pruning(each, conv=False) for layer, each in zip(found, chosen, strict=True))

        deviations = DEVIATIONS if self.u is None else (self.u,)
        allowed = self.accuracy_drop if self.u is None else 1.0
        return self.prune(model, held_out, ((u, above(u)) for u in deviations), allowed)


@torch.no_grad()
def lipschitz(layer: Channels) -> Tensor:
    """[C] bound of each channel's Lipschitz constant, as the paper takes it.

    Args:
        layer: a convolution, alone or with the BatchNorm behind it.
    """
    sigma = torch.linalg.matrix_norm(layer.conv.weight.float().flatten(2), ord=2)
    if layer.norm is None:
        return sigma
    return sigma * layer.norm.weight.float().abs() / (layer.norm.running_var.float() + layer.norm.eps).sqrt()
