"""A classifier that all ranks ask about the same images, each of which answers for a share of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from lightning_adv.asking import Classifier, logits_of

__all__ = ["SharedOut", "gathered"]


class SharedOut(nn.Module):
    """Logits, and gradients of images, of a model that all ranks ask the same at the same time.

    For searches that cannot be split by what they look for (evolution: children of all classes compete): every rank
    goes through the whole search, and a forward takes its share of the images alone.

    Args:
        model: images [N, C, H, W] to logits; each sample's are its own, as in eval mode.
        rank, ranks: this process, and how many there are.
        gather: a tensor of this rank to those of all of them, in the order of the ranks, one behind the other.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> alone = SharedOut(net, 0, 1, lambda own: own)
        >>> alone(torch.rand(5, 1, 2, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, model: Classifier, rank: int, ranks: int, gather: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.rank, self.ranks, self.gather = model, rank, ranks, gather

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W], the same on every rank."""
        return _Answers.apply(image, self)

    def rows(self, images: int) -> Tensor:
        """Which of so many images this rank takes; all take as many, the last image again where there are none."""
        size = -(-images // self.ranks)
        return torch.arange(self.rank * size, (self.rank + 1) * size).clamp(max=images - 1)


class _Answers(torch.autograd.Function):
    """Own images forward and backward, those of the other ranks from them."""

    @staticmethod
    def forward(ctx: FunctionCtx, image: Tensor, shared: SharedOut) -> Tensor:
        """Logits of all images."""
        rows = shared.rows(len(image)).to(image.device)
        own = image.detach()[rows].requires_grad_(ctx.needs_input_grad[0])
        with torch.set_grad_enabled(ctx.needs_input_grad[0]):
            logits = logits_of(shared.model, own)
        ctx.own, ctx.logits, ctx.rows, ctx.shared = own, logits, rows, shared
        return shared.gather(logits.detach())[: len(image)]

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        """Gradient of all images."""
        (own,) = torch.autograd.grad(ctx.logits, ctx.own, grad[ctx.rows])
        return ctx.shared.gather(own)[: len(grad)], None


def gathered(own: Tensor) -> Tensor:
    """Tensors of one size of all ranks of the process group, one behind the other."""
    parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, own.contiguous())
    return torch.cat(parts)
