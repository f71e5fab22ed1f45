"""Uncertainty of the model under dropout (Feinman et al., Detecting Adversarial Samples from Artifacts, 2017).

score(x) = mean over classes of the variance of p_t(x) over T passes with dropout
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.attacks import SampleNoise
from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.detectors.detector import Detector
from lightning_adv.detectors.features import as_module
from lightning_adv.errors import InputError

__all__ = ["ModelUncertainty"]

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class ModelUncertainty(Detector):
    """Images on which the answers of the model with random units left out disagree.

    All other modules stay in eval mode. Which units are left out is a function of (seed, sample index, pass).

    Args:
        passes: T.
        batch_size: images times passes in one forward.
        seed: of the dropout.

    Raises:
        InputError: fewer than two passes; when used, a model without a dropout module of positive probability.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 3))
        >>> (ModelUncertainty(passes=10).score(model, torch.rand(2, 1, 2, 2)) > 0).all()
        tensor(True)
    """

    def __init__(self, passes: int = 50, batch_size: int = 1000, seed: int = 0) -> None:
        if passes < 2 or batch_size < 1:
            raise InputError(f"passes must be at least 2 and batch_size at least 1, got {passes}, {batch_size}")
        self.passes, self.batch_size, self.seed = passes, batch_size, seed

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse a model without dropout."""
        self.measure(model, x, index)

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """Mean variance of the class probabilities [N, 1]."""
        net = as_module(model, "ModelUncertainty")
        answers = []
        at_once = max(1, self.batch_size // len(x))
        for start in range(0, self.passes, at_once):
            draw = torch.arange(start, min(start + at_once, self.passes), device=x.device)
            key = (index[:, None] * self.passes + draw).flatten()
            with _dropout_by_sample(net, SampleNoise(self.seed, key)), torch.compiler.set_stance("force_eager"):
                logits = logits_of(net, x.repeat_interleave(len(draw), dim=0))
            answers.append(logits.softmax(dim=1).view(len(x), len(draw), -1))
        return torch.cat(answers, dim=1).double().var(dim=1, unbiased=False).mean(dim=1, keepdim=True)


@contextmanager
def _dropout_by_sample(model: nn.Module, noise: SampleNoise) -> Iterator[None]:
    """Dropout modules in eval mode leave out units all the same, each sample's from its own noise."""
    dropouts = [module for module in model.modules() if isinstance(module, DROPOUTS) and 0 < module.p < 1]
    if not dropouts:
        raise InputError(
            "ModelUncertainty needs a model with dropout, and this one has no nn.Dropout module of positive "
            "probability; train one with it (e.g. backbone_options: {drop_rate: 0.3}) or use another detector"
        )

    def leave_out(module: nn.Module, _: tuple, made: Tensor) -> Tensor:
        # Dropout2d and its like leave out whole channels.
        like = made if isinstance(module, nn.Dropout) else made.flatten(2)[:, :, 0]
        kept = noise.uniform(like) >= module.p
        return made * kept.view(*like.shape, *[1] * (made.dim() - like.dim())) / (1 - module.p)

    hooks = [module.register_forward_hook(leave_out) for module in dropouts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
