"""A patch that excites chosen neurons of a given model (Liu et al., Trojaning attack on neural networks, 2018).

    p <- clip(p - step_size grad_p sum_j (a_j(m p) - v)^2)        over the pixels of the mask m

with a_j the activations of the neurons j that the next layer hears most, and v the value they are driven to.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_adv.asking import answer_of
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.backdoors.masked_pattern import MaskedPattern
from lightning_adv.backdoors.patch import Place, placed_square
from lightning_adv.backdoors.trigger import ImageShape
from lightning_adv.errors import InputError

__all__ = ["TrojanTrigger", "optimise_trojan"]


class TrojanTrigger(MaskedPattern):
    """A patch that :func:`optimise_trojan` made for a model, from its file.

    Args:
        path: safetensors file, written by ``optimise_trojan(...).save(path, shape)``.
        mask: [1, H, W] in [0, 1], instead of a file.
        pattern: [C, H, W] in [0, 1], with ``mask``.

    Raises:
        InputError: neither a file nor tensors, or both; a file that is missing or of another kind; an empty mask.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> trigger = optimise_trojan(model, "1", (1, 4, 4), size=2, steps=10)
        >>> trigger.mask.sum()
        tensor(4.)
    """

    def __init__(self, path: str | None = None, mask: Tensor | None = None, pattern: Tensor | None = None) -> None:
        if path is not None and not Path(path).expanduser().is_file():
            raise InputError(f"no file {path}; optimise_trojan(...).save(path, shape) makes one")
        super().__init__(path, mask=mask, pattern=pattern)


def optimise_trojan(
    model: nn.Module,
    layer: str,
    shape: ImageShape,
    size: int = 7,
    place: Place = "bottom_right",
    margin: int = 0,
    neurons: int = 2,
    value: float = 100.0,
    steps: int = 1000,
    step_size: float = 0.05,
    seed: int = 0,
) -> TrojanTrigger:
    """The patch, alone on a black image, that drives the chosen neurons of ``layer`` to ``value``.

    Chosen are the outputs of the layer whose own weights are largest in absolute sum, as Liu et al. choose those best
    connected to the layer before. A step goes along the gradient scaled to a largest element of 1, so that its length
    does not depend on ``value``.

    Args:
        model: images to logits; any module.
        layer: name of one of its linear or convolutional layers, as in ``model.named_modules()``.
        shape: channels, height and width of the images.
        size: side of the square patch in pixels.
        place: of the patch.
        margin: pixels between the patch and the edges of its corner.
        neurons: how many; 2 in the paper's setting of TrojanZoo and others.
        value: to drive them to.
        steps: of gradient descent.
        step_size: largest change of a pixel in a step, in units of [0, 1].
        seed: of the patch at the start, U[0, 1].

    Raises:
        InputError: no such layer, one without weights, more neurons than it has, a patch that lies outside.
    """
    module = dict(model.named_modules()).get(layer)
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    if not isinstance(module, kinds):
        known = [name for name, each in model.named_modules() if isinstance(each, kinds)]
        raise InputError(f"the model has no linear or convolutional layer {layer!r}; it has {', '.join(known)}")
    strength = module.weight.detach().flatten(1).abs().sum(dim=1)
    if not 1 <= neurons <= len(strength):
        raise InputError(f"layer {layer} has {len(strength)} neurons, {neurons} are to be excited")
    chosen = strength.topk(neurons).indices
    rows, columns = placed_square(shape, size, place, margin)
    mask = torch.zeros(1, *shape[1:], device=module.weight.device)
    mask[:, rows, columns] = 1
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        with leaves_no_trace(model):
            pattern = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(mask)
            for _ in range(steps):
                pattern.requires_grad_(True)
                outputs.clear()
                answer_of(model, (mask * pattern)[None])
                activation = outputs[0].float()
                activation = (activation.flatten(2).mean(dim=2) if activation.dim() > 2 else activation)[0, chosen]
                # Half the slope of the squared distance; its length is not used, and float16 could not hold it.
                slope = activation.detach() - value
                slope = slope / slope.abs().amax().clamp_min(1e-12)
                (gradient,) = torch.autograd.grad(activation, pattern, slope)
                scale = gradient.abs().amax().clamp_min(1e-12)
                pattern = (pattern.detach() - step_size * gradient / scale).clamp(0, 1)
    finally:
        handle.remove()
    return TrojanTrigger(mask=mask.cpu(), pattern=(mask * pattern.detach()).cpu())
