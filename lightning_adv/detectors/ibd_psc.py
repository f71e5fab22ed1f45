"""IBD-PSC (Hou et al., 2024): a detector of triggered inputs that scales the parameters of the model.

    score(x) = 1/n sum_{i=0}^{n-1} softmax f_{k+i}(x)_y,    y = argmax f(x)

f_k is f with weight and bias of its last k BatchNorm layers multiplied by omega = 1.5; k is the first number of layers
with which f_k gets more than a share xi of clean images wrong. What a trigger leads to survives that.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_adv.asking import is_right, logits_of
from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.detectors.detector import Detector, LabelledImages
from lightning_adv.detectors.features import as_module, of_predicted
from lightning_adv.errors import InputError, at_least_one

__all__ = ["IBDPSC"]


class IBDPSC(Detector):
    """Tells inputs with a backdoor's trigger: the model stays sure of their class when its BatchNorm layers amplify.

    ``fit`` chooses the layers by the clean images' labels. The last layers are those that a forward passes last, in
    whatever order the model's class names them; the model itself is not touched: forwards take amplified copies of the
    layers' parameters. The paper's threshold is a mean confidence of .9.

    Args:
        factor: omega, that weights and biases are multiplied by.
        error: xi, share of the clean images that the first amplified model gets wrong.
        models: n, amplified models; where the net has too few layers for so many, those that there are.

    Raises:
        InputError: numbers that cannot be meant; when used, a model without BatchNorm layers that have weights.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(3))
        >>> images = [(torch.rand(9, 1, 2, 2), torch.arange(9) % 3)]
        >>> IBDPSC(models=2).fit(model, images).score(model, torch.rand(2, 1, 2, 2)).shape
        torch.Size([2])
    """

    threshold = 0.9

    def __init__(self, factor: float = 1.5, error: float = 0.6, models: int = 5) -> None:
        at_least_one(models=models)
        if factor <= 1 or not 0 < error < 1:
            raise InputError(f"IBDPSC needs a factor above 1 and an error in (0, 1), got {factor} and {error}")
        self.factor, self.error, self.models = factor, error, models
        self.layers: list[str] = []
        self.first = 0  # k, layers that the first amplified model amplifies

    def learn(self, model: LabelOracle, batches: Iterable[LabelledImages]) -> None:
        """Choose the layers: the fewest, from the last one on, with which clean images are lost."""
        net, clean = as_module(model, "IBDPSC"), list(batches)
        self.layers, self.doubts = _normalisations(net, clean[0].image[:1]), ()
        images = sum(len(batch.image) for batch in clean)
        for count in range(1, len(self.layers) + 1):
            amplified = self._amplified(net, count)
            right = sum(int(is_right(logits_of(amplified, batch.image), batch.label).sum()) for batch in clean)
            if 1 - right / images > self.error:
                self.first = count
                return
        self.first = max(1, len(self.layers) - self.models + 1)
        self.doubts = (
            f"with all {len(self.layers)} BatchNorm layers amplified the model still gets {right} of {images} clean "
            "images right, so that they stay as sure as triggered ones: raise factor",
        )

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse a model without BatchNorm layers."""
        _normalisations(as_module(model, "IBDPSC"), x[:1])

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """Mean confidence of the amplified models in the model's own class [N, 1]."""
        if not self.layers:
            raise InputError("IBDPSC has not chosen its layers yet: call fit(model, loader) first")
        net = as_module(model, "IBDPSC")
        counts = range(self.first, min(self.first + self.models, len(self.layers) + 1))
        answers = [logits_of(self._amplified(net, count), x).softmax(dim=1) for count in counts]
        return of_predicted(torch.stack(answers).mean(dim=0), logits_of(net, x))

    def _amplified(self, net: nn.Module, count: int) -> nn.Module:
        """The model with its last ``count`` layers amplified."""
        weights = dict(net.named_parameters(remove_duplicate=False))
        names = [f"{layer}.{part}" for layer in self.layers[-count:] for part in ("weight", "bias")]
        return _With(net, {name: self.factor * weights[name] for name in names if name in weights})


class _With(nn.Module):
    """A net, some of whose parameters are others in its forward."""

    def __init__(self, net: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net, self.replaced = net, parameters

    def forward(self, x: Tensor) -> Tensor:
        return functional_call(self.net, dict(self.replaced), (x,))


def _normalisations(net: nn.Module, x: Tensor) -> list[str]:
    """Names of the BatchNorm layers that have weights, in the order in which the forward of an image ends them.

    Raises:
        InputError: there is none.
    """
    passed: dict[str, None] = {}
    hooks = []

    def note(name: str) -> None:
        passed.pop(name, None)  # a layer that is passed twice counts where it is passed last
        passed[name] = None

    try:
        for name, module in net.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
                hooks.append(module.register_forward_hook(lambda *_, name=name: note(name)))
        # A compiled module would not see hooks that came after it was compiled.
        with torch.compiler.set_stance("force_eager"):
            logits_of(net, x)
    finally:
        for hook in hooks:
            hook.remove()
    if not passed:
        raise InputError("IBDPSC amplifies BatchNorm layers, and the model has none with weights: use ScaleUp or STRIP")
    return list(passed)
