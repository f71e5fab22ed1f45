"""STRIP (Gao et al., A Defence Against Trojan Attacks on Deep Neural Networks, 2019).

score(x) = -1/N sum_n H( softmax f( clamp(x + o_n) ) ),  o_n clean images, H the entropy over the classes

A trigger decides the class whatever lies over it: the entropy of a triggered input stays low.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_adv.asking import logits_of
from lightning_adv.attacks import SampleNoise
from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.detectors.detector import Detector, LabelledImages, doubts_about, upper_quantile
from lightning_adv.detectors.features import as_module
from lightning_adv.errors import InputError, at_least_one

__all__ = ["STRIP"]


class STRIP(Detector):
    """Tells inputs with a backdoor's trigger: their prediction survives other images laid over them.

    ``fit`` keeps one half of the clean images to lay over inputs and sets the threshold on the other half.

    Args:
        overlays: N, clean images laid over each input; 64 to 100.
        false_rejection_rate: share of clean inputs that ``decide`` rejects, in [0, 1).
        weight: of the overlay; 1 adds it in full, as the paper does.
        pool: most clean images kept to choose overlays from, by chance for each input, and most that set the threshold.
        batch_size: superimposed images in one forward.
        seed: of the choice of overlays.

    Raises:
        InputError: a number below 1, a rate or weight out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> strip = STRIP(overlays=8).fit(model, [(torch.rand(40, 1, 2, 2), torch.arange(40) % 3)])
        >>> strip.decide(model, torch.rand(5, 1, 2, 2)).suspicious.shape
        torch.Size([5])
    """

    def __init__(
        self,
        overlays: int = 64,
        false_rejection_rate: float = 0.01,
        weight: float = 1.0,
        pool: int = 1000,
        batch_size: int = 1000,
        seed: int = 0,
    ) -> None:
        at_least_one(overlays=overlays, pool=pool, batch_size=batch_size)
        if not 0 <= false_rejection_rate < 1:
            raise InputError(f"false_rejection_rate must lie in [0, 1), got {false_rejection_rate}")
        if not 0 < weight <= 1:
            raise InputError(f"weight must lie in (0, 1], got {weight}")
        self.overlays, self.false_rejection_rate, self.weight = overlays, false_rejection_rate, weight
        self.pool, self.batch_size, self.seed = pool, batch_size, seed
        self.images: Tensor | None = None

    def learn(self, model: LabelOracle, batches: Iterable[LabelledImages]) -> None:
        """Keep every other clean image as an overlay and set the threshold on the rest."""
        as_module(model, "STRIP")
        kept, image, index = [], [], []
        for batch in batches:
            kept.append(batch.image[0::2])
            image.append(batch.image[1::2])
            index.append(batch.index[1::2])
        pool, held_out = torch.cat(kept), torch.cat(image)
        if not len(held_out):
            raise InputError("STRIP needs at least two clean images, got one")
        keys = SampleNoise(self.seed, torch.arange(len(pool), device=pool.device)).uniform(pool.new_empty(len(pool), 1))
        self.images = pool[keys[:, 0].argsort()[: self.pool]]
        chosen = torch.linspace(0, len(held_out) - 1, min(len(held_out), self.pool), device=pool.device).long()
        held_out, own = held_out[chosen], torch.cat(index)[chosen]
        parts = zip(held_out.split(self.batch_size), own.split(self.batch_size), strict=True)
        scores = torch.cat([self.combine(self.measure(model, *part)) for part in parts])
        self.threshold = upper_quantile(scores, self.false_rejection_rate)
        self.doubts = doubts_about(self.threshold, scores, self.false_rejection_rate)

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse a model that gives no logits."""
        logits_of(as_module(model, "STRIP"), x)

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """Minus the mean entropy of the superimposed images [N, 1], in nats, without those that break the model."""
        if self.images is None:
            raise InputError("STRIP has no clean images to lay over inputs yet: call fit(model, loader) first")
        uniform = SampleNoise(self.seed, index).uniform(x.new_empty(len(x), self.overlays))
        chosen = (uniform * len(self.images)).long()  # [N, overlays]
        total = torch.zeros(2, len(x), device=x.device)  # entropies, and how many
        at_once = max(1, self.batch_size // len(x))
        for columns in chosen.split(at_once, dim=1):
            under = x.repeat_interleave(columns.shape[1], dim=0)
            mixed = (under + self.weight * self.images[columns.flatten()]).clamp(0, 1)
            log_p = logits_of(model, mixed).log_softmax(dim=1)
            # Over the classes of each superimposed image; one that the model rules out (-inf) adds 0.
            entropy = -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=1)
            entropy = entropy.view(len(x), -1)
            total = total + torch.stack([entropy.nansum(dim=1), (~entropy.isnan()).sum(dim=1)])
        return -(total[0] / total[1])[:, None]
