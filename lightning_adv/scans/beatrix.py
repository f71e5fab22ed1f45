"""Beatrix (Ma et al., The Beatrix Resurrections: Robust Backdoor Detection via Gram Matrices, 2023).

    G_p = (F^p F^p')^(1/p),  F [C, H W] the map of a layer; powers element by element, roots with their sign, p = 1 .. P
    score(x) = mean of min(|G - median| / (1.4826 MAD), clip) over entries and orders

Median and MAD are those of clean images of the class. Images of high score and the others are two groups of features, m
and n of them, whose maximum mean discrepancy is far above that of other classes where the class is poisoned:

    J = m n / (m + n) (mean k(a, a') - 2 mean k(a, b) + mean k(b, b')),   k Gaussian
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_adv.asking import check_labels
from lightning_adv.detectors import LabelledImages
from lightning_adv.detectors.detector import upper_quantile
from lightning_adv.detectors.features import activations
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.inspectors.outliers import GAUSSIAN_MAD
from lightning_adv.scans.scan import ClassFinding, Scan, far_above

__all__ = ["Beatrix", "discrepancy", "gram_entries"]

AT_ONCE = 2**24
"""Gram entries that are held at once: 64 MiB."""

MOST = 1000
"""Images of a group whose discrepancy is calculated."""


@dataclass(frozen=True)
class _Clean:
    """What clean images tell: middle and spread [K, E] of E entries in each of K classes, the limit of clean scores."""

    middle: Tensor
    spread: Tensor
    limit: float


class Beatrix(Scan[_Clean]):
    """Suspects images whose Gram matrices are not those of clean images of their class (Ma et al., 2023).

    Needs clean images, at least four of every class: half of them tell the middle and spread of a class, the others
    the limit of the scores. It keeps P C (C + 1) numbers a class, for C channels and P orders.

    Args:
        orders: P.
        clip: what a deviation counts at most.
        false_rejection_rate: share of clean images above the limit, in [0, 1).
        threshold: of the class's distance from the median of all, in units of 1.4826 MAD.
        layer: a convolution, by its name in ``model.named_modules()``; None for the last one.

    Raises:
        InputError: numbers out of range; a model without a convolution; too few clean images of a class.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(8, 3))
        >>> images, label = torch.rand(60, 1, 3, 3), torch.arange(60) % 3
        >>> report = Beatrix(orders=2)(model, [(images[:30], label[:30])], [(images[30:], label[30:])])
        >>> len(report.score)
        30
    """

    statistic = "discrepancy of two groups"
    needs_clean = True

    def __init__(
        self,
        orders: int = 8,
        clip: float = 10.0,
        false_rejection_rate: float = 0.05,
        threshold: float = math.e**2,
        layer: str | None = None,
    ) -> None:
        at_least_one(orders=orders)
        if clip <= 0 or threshold <= 0 or not 0 <= false_rejection_rate < 1:
            raise InputError(
                "Beatrix: clip and threshold must be above 0 and false_rejection_rate in [0, 1), got "
                f"{clip}, {threshold} and {false_rejection_rate}"
            )
        self.orders, self.clip, self.false_rejection_rate = orders, clip, false_rejection_rate
        self.threshold, self.layer = threshold, layer

    def check(self, model: nn.Module, x: Tensor) -> None:
        """Refuse a model without a convolution."""
        self._maps(model, x)

    def learn(self, model: nn.Module, clean: Iterable[LabelledImages]) -> _Clean:
        """Middle and spread of one half of the clean images, the limit of the other half's scores."""
        parts, classes = [], 0
        for batch in clean:
            maps, _, classes = self._maps(model, batch.image)
            parts.append((maps, batch.label))
        maps, label = (torch.cat(each) for each in zip(*parts, strict=True))
        middles, spreads, scores = [], [], []
        for number in range(classes):
            own = maps[label == number]
            if len(own) < 4:
                raise InputError(f"Beatrix needs four clean images of every class, class {number} has {len(own)}")
            entries = gram_entries(own[0::2], self.orders)
            middles.append(entries.median(dim=0).values)
            spreads.append(GAUSSIAN_MAD * (entries - middles[-1]).abs().median(dim=0).values)
            scores.append(self._deviation(gram_entries(own[1::2], self.orders), middles[-1], spreads[-1]))
        limit = upper_quantile(torch.cat(scores), self.false_rejection_rate)
        return _Clean(torch.stack(middles), torch.stack(spreads), limit)

    def measure(self, model: nn.Module, batch: LabelledImages, known: _Clean) -> Tensor:
        """How far the score lies above the limit, and the features of the last hidden layer [N, 1 + D]."""
        maps, hidden, classes = self._maps(model, batch.image)
        check_labels(batch.label, classes)
        at_once = max(1, AT_ONCE // known.middle.shape[1])
        scores = [
            self._deviation(gram_entries(rows, self.orders), known.middle[label], known.spread[label])
            for rows, label in zip(maps.split(at_once), batch.label.split(at_once), strict=True)
        ]
        return torch.cat([torch.cat(scores)[:, None] - known.limit, hidden], dim=1)

    def split(self, measures: Tensor) -> ClassFinding:
        """Images above the limit, and how their features differ from those of the others."""
        suspect, features = measures[:, 0] > 0, measures[:, 1:]
        return ClassFinding(measures[:, 0], suspect, discrepancy(features[suspect], features[~suspect]))

    def verdicts(self, findings: Sequence[ClassFinding]) -> list[bool | None]:
        """By the distance from the median of the classes."""
        return far_above(findings, self.threshold)

    def _deviation(self, entries: Tensor, middle: Tensor, spread: Tensor) -> Tensor:
        """Scores [N] of entries [N, E]; one that equals the middle deviates by nothing also where nothing varies."""
        away = (entries - middle).abs()
        return torch.where(away > 0, away / spread, 0).clamp(max=self.clip).mean(dim=1)

    def _maps(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Maps [N, C, H W] of the layer, features [N, D] of the last hidden one, and the number of classes."""
        convolutions = {name: each for name, each in model.named_modules() if isinstance(each, nn.Conv2d)}
        layer = next(reversed(convolutions), None) if self.layer is None else self.layer
        if layer is None or (layer not in convolutions and layer in dict(model.named_modules())):
            raise InputError(
                f"Beatrix looks at the map of a convolution, and {'the model' if layer is None else layer} has none: "
                f"name one of {', '.join(convolutions) or 'another model'}"
            )
        (maps, hidden), logits = activations(model, x, [layer, None])
        return maps.view(len(x), convolutions[layer].out_channels, -1), hidden, logits.shape[1]


def gram_entries(maps: Tensor, orders: int) -> Tensor:
    """Upper triangles of the Gram matrices of orders 1 .. P of maps [N, C, S]: [N, P C (C + 1) / 2].

    Each map is divided by its largest value, and its entries multiplied by its square: high powers would overflow.

    Example:
        >>> gram_entries(torch.tensor([[[1.0, 2.0], [4.0, -1.0]]]), 2).tolist()[0][:3]
        [5.0, 2.0, 17.0]
    """
    largest = maps.abs().amax(dim=(1, 2), keepdim=True)
    scaled = maps / largest.clamp(min=torch.finfo(maps.dtype).tiny)
    row, column = torch.triu_indices(maps.shape[1], maps.shape[1])
    found = []
    for order in range(1, orders + 1):
        powers = scaled**order
        entries = (powers @ powers.mT)[:, row, column]
        found.append(entries.sign() * entries.abs() ** (1 / order))
    return torch.cat(found, dim=1) * largest[:, 0].square()


def discrepancy(some: Tensor, others: Tensor) -> float:
    """Squared maximum mean discrepancy of two groups of features [m, D] and [n, D], times m n / (m + n).

    The width of the kernel is the median distance between all. Of large groups, a thousand images count, evenly chosen.

    Example:
        >>> same = torch.tensor([[0.0], [1.0]])
        >>> discrepancy(same, same), discrepancy(same, same[:0])
        (0.0, 0.0)
    """
    m, n = len(some), len(others)
    if not m or not n:
        return 0.0
    some, others = (each[:: -(-len(each) // MOST)] for each in (some, others))
    every = torch.cat([some, others])
    squares = torch.cdist(every, every, compute_mode="donot_use_mm_for_euclid_dist").square()
    width = squares.flatten()[squares.flatten() > 0]
    kernel = (-squares / (2 * width.median())).exp() if len(width) else torch.ones_like(squares)
    a, b = slice(None, len(some)), slice(len(some), None)
    apart = kernel[a, a].mean() - 2 * kernel[a, b].mean() + kernel[b, b].mean()
    return m * n / (m + n) * max(0.0, float(apart))
