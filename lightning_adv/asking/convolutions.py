"""Convolutions as a gradient to the image wants them on a CPU: channels last, and few channels in another way.

oneDNN's convolutions are up to four times as fast where the numbers of a pixel lie together, and to an image of few
channels its gradient takes several times as long as

    grad_x  =  sum_ij shift_ij( W_ij^T grad_y )      or, with a stride s,      grad_x  =  interleaved( W_s * grad_y )

in which W_s, flipped and sorted by rows and columns modulo s, makes s x s pixels in as many channels at each place.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["channels_last", "convolved", "quick_convolutions"]

FEW, LANES = 3, 16
"""Channels up to which these gradients are the faster ones, and up to which interleaving is in half precision."""


def channels_last(x: Tensor) -> Tensor:
    """Numbers [N, C, H, W] with those of a pixel side by side, said in a way that oneDNN understands.

    ``contiguous`` leaves images of one channel as they are, for whose strides both layouts are one.

    Example:
        >>> channels_last(torch.rand(2, 1, 4, 4)).stride()
        (16, 1, 4, 1)
    """
    return x if x.stride(1) == 1 and x.shape[1] > 1 else x.clone(memory_format=torch.channels_last)


def convolved(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """A convolution [N, O, H', W'] of images [N, C, H, W], with the gradients of this module.

    Example:
        >>> x, weight = torch.rand(2, 1, 6, 6), torch.rand(4, 1, 3, 3)
        >>> torch.allclose(convolved(x, weight, None, (1, 1), (1, 1), (1, 1)), F.conv2d(x, weight, padding=1))
        True
    """
    return _Convolution.apply(image, weight, bias, stride, padding, dilation)


def quick_convolutions(device: torch.device) -> AbstractContextManager:
    """Inside, convolutions whose weights are frozen compute on a CPU as above; compiled ones as they were compiled.

    A model that looks at a convolution's answer by ``view`` breaks, for its channels do not lie together.

    Example:
        >>> net = torch.nn.Conv2d(1, 4, 3).requires_grad_(False)
        >>> with quick_convolutions(torch.device("cpu")):
        ...     answer = net(torch.rand(2, 1, 6, 6))
        >>> answer.is_contiguous(memory_format=torch.channels_last)
        True
    """
    return _QuickConvolutions() if device.type == "cpu" else nullcontext()


class _QuickConvolutions(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, object] | None = None
    ) -> object:
        given = kwargs or {}
        if torch.compiler.is_compiling():
            return func(*args, **given)
        if func is F.conv2d:
            return _conv2d(*args, **given)
        if func in (Tensor.flatten, torch.flatten) and args and args[0].dim() == 4:
            return func(_KeepsLayout.apply(args[0]), *args[1:], **given)
        return func(*args, **given)


def _conv2d(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """``conv2d``."""
    if weight.requires_grad or image.dim() != 4 or not image.is_floating_point():
        return F.conv2d(image, weight, bias, stride, padding, dilation, groups)
    image, weight = channels_last(image), channels_last(weight)
    stride, dilation = _pair(stride), _pair(dilation)
    lowered = torch.is_autocast_enabled("cpu") or image.dtype != torch.float32
    few = weight.shape[1] <= (LANES if lowered and max(stride) > 1 else FEW)
    if groups > 1 or isinstance(padding, str) or not few or not (image.requires_grad and torch.is_grad_enabled()):
        return F.conv2d(image, weight, bias, stride, padding, dilation, groups)
    if torch.is_autocast_enabled("cpu"):
        lower = torch.get_autocast_dtype("cpu")
        image, weight, bias = image.to(lower), weight.to(lower), None if bias is None else bias.to(lower)
    return convolved(image, weight, bias, stride, _pair(padding), dilation)


def _pair(size: int | Sequence[int]) -> tuple[int, ...]:
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return sizes * 2 if len(sizes) == 1 else sizes


class _KeepsLayout(torch.autograd.Function):
    """The same images; their gradient comes in their layout, for arithmetic of two layouts is slow."""

    @staticmethod
    def forward(ctx: object, image: Tensor) -> Tensor:
        ctx.last = image.is_contiguous(memory_format=torch.channels_last)
        return image.view_as(image)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return channels_last(grad) if ctx.last else grad


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
    ) -> Tensor:
        # torch.compile counts the arguments and, with a star among them, takes the first for a context.
        return F.conv2d(image, weight, bias, stride, padding, dilation)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple, output: Tensor) -> None:
        image, weight, _, *ctx.settings = inputs
        ctx.size = image.shape[2:]
        ctx.save_for_backward(image, weight)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple:
        image, weight = ctx.saved_tensors
        to_image = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            way = _to_image if torch.compiler.is_compiling() else _gradient
            to_image = way(grad, weight, ctx.size, *ctx.settings)
        if ctx.needs_input_grad[1]:
            to_weight = torch.nn.grad.conv2d_weight(image, weight.shape, grad, *ctx.settings)
        if ctx.needs_input_grad[2]:
            to_bias = grad.sum(dim=(0, 2, 3))
        return to_image, to_weight, to_bias, None, None, None


def _gradient(
    grad: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The gradient [N, C, H, W], in whichever of the two ways suits."""
    if weight.shape[1] > 1 and max(stride) > 1 and max(dilation) == 1:
        return _interleaved(grad, weight, size, stride, padding)
    return _added_up(grad, weight, size, stride, padding, dilation)


# An operator of its own for torch.compile, which would take the sum apart into slower code.
_to_image = torch.library.custom_op("lightning_adv::convolution_to_image", _gradient, mutates_args=())


@_to_image.register_fake
def _(grad: Tensor, weight: Tensor, size: Sequence[int], *settings: Sequence[int]) -> Tensor:
    shape = (grad.shape[0], weight.shape[1], *size)
    return torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)


def _added_up(
    grad: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The gradient [N, C, H, W] as a sum over the pixels of the kernel."""
    outputs, channels, *kernel = weight.shape
    many, _, high, wide = grad.shape
    parts = weight.flatten(1).T @ grad.transpose(0, 1).reshape(outputs, -1)
    parts = parts.view(channels, *kernel, many, high, wide)
    # Wide enough for whichever is larger: what the outputs have seen, and the padded image.
    span = [
        max((count - 1) * step + (width - 1) * apart + 1, length + 2 * pad)
        for count, step, width, apart, length, pad in zip(
            (high, wide), stride, kernel, dilation, size, padding, strict=True
        )
    ]
    whole = grad.new_zeros(channels, many, *span)
    for row in range(kernel[0]):
        rows = slice(row * dilation[0], row * dilation[0] + (high - 1) * stride[0] + 1, stride[0])
        for column in range(kernel[1]):
            columns = slice(column * dilation[1], column * dilation[1] + (wide - 1) * stride[1] + 1, stride[1])
            whole[:, :, rows, columns] += parts[:, row, column]
    return _cut(whole.transpose(0, 1), size, padding)


def _interleaved(
    grad: Tensor, weight: Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """The gradient [N, C, H, W], of which a forward convolution makes s x s pixels at a time."""
    (down, right), channels = stride, weight.shape[1]
    weight = F.pad(weight, (0, -weight.shape[3] % right, 0, -weight.shape[2] % down))
    high, wide = weight.shape[2] // down, weight.shape[3] // right
    phases = weight.unflatten(3, (wide, right)).unflatten(2, (high, down)).flip(2, 4)  # [O, C, high, s, wide, s]
    phases = phases.permute(3, 5, 1, 0, 2, 4).reshape(-1, len(weight), high, wide)  # [s s C, O, high, wide]
    made = F.conv2d(channels_last(grad), channels_last(phases), None, 1, (high - 1, wide - 1)).permute(0, 2, 3, 1)
    whole = made.unflatten(3, (down, -1)).transpose(2, 3)  # [N, H', s, W', s C]
    whole = whole.reshape(len(grad), made.shape[1] * down, -1, channels).permute(0, 3, 1, 2)
    # Where the strides do not come out even, no output has seen the last rows and columns.
    unseen = [max(0, length + pad - made) for length, pad, made in zip(size, padding, whole.shape[2:], strict=True)]
    return _cut(F.pad(whole, (0, unseen[1], 0, unseen[0])) if any(unseen) else whole, size, padding)


def _cut(whole: Tensor, size: Sequence[int], padding: Sequence[int]) -> Tensor:
    """The image [N, C, H, W] inside its padding."""
    (top, left), (height, width) = padding, size
    return whole[:, :, top : top + height, left : left + width].clone(memory_format=torch.channels_last)
