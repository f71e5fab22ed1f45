"""Backward pass differentiable approximation (Athalye, Carlini, Wagner, 2018).

forward: h(x),   backward: the gradient of s(x), as s(x) + (h(x) - s(x)).detach()
"""

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["BPDA"]


class BPDA(nn.Module):
    """A preprocessing step whose gradient is replaced by that of a smooth stand-in.

    Put it before a classifier and attack the whole: ``nn.Sequential(BPDA(jpeg), classifier)``.

    Args:
        purifier: images [N, C, H, W] to images of the same shape; need not be differentiable.
        surrogate: differentiable approximation of it; default the identity.

    Example:
        >>> x = torch.rand(1, 1, 2, 2, requires_grad=True)
        >>> BPDA(torch.round)(x).sum().backward()
        >>> x.grad.flatten()
        tensor([1., 1., 1., 1.])
    """

    def __init__(self, purifier: Callable[[Tensor], Tensor], surrogate: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.purifier, self.surrogate = purifier, surrogate

    def forward(self, image: Tensor) -> Tensor:
        """The purified image; its gradient is the surrogate's."""
        smooth = image if self.surrogate is None else self.surrogate(image)
        return smooth + (self.purifier(image.detach()) - smooth).detach()
