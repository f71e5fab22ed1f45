"""Distances to many reference points, in pieces: the N x M matrix is never held.

Squares are taken apart, |q - z|^2 = |q|^2 + |z|^2 - 2 q.z, which cancels where points are near, so in float64: what is
left of rounding is that of the features.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["class_log_densities", "nearest_distances"]

PIECE = 2**21
"""Distances held at once: 16 MiB in float64."""

SAME = 1e-5
"""Features of one image, over their length, differ by less than this between batches of different sizes, whose sums
processors take in different orders."""


def nearest_distances(queries: Tensor, reference: Tensor, k: int) -> Tensor:
    """[N, k] Euclidean distances of each query [N, D] to its k nearest references [M, D], ascending.

    References equal to the query, but for rounding, do not count: they are the query itself. A query with fewer than k
    others has its farthest one repeated.
    """
    parts = []
    for rows in _rows(queries, reference):
        best = torch.full((len(rows), 0), torch.inf, dtype=torch.float64, device=rows.device)
        for squares in _squares(rows, reference):
            best = torch.cat([best, squares], dim=1)
            best = best.topk(min(k + 1, best.shape[1]), dim=1, largest=False).values
        itself = best <= SAME**2 * rows.double().square().sum(dim=1, keepdim=True)
        nearest = torch.where(itself, torch.inf, best.sqrt()).sort(dim=1).values[:, :k]
        farthest = torch.where(nearest.isinf(), 0.0, nearest).amax(dim=1, keepdim=True)
        nearest = torch.where(nearest.isinf(), farthest, nearest)
        missing = k - nearest.shape[1]
        parts.append(torch.cat([nearest, farthest.expand(-1, missing)], dim=1) if missing > 0 else nearest)
    return torch.cat(parts).to(queries.dtype)


def class_log_densities(queries: Tensor, reference: Tensor, counts: Sequence[int], bandwidth: Tensor) -> Tensor:
    """Log of the mean Gaussian kernel over the references of each class, at each bandwidth: [H, N, K].

        log 1/|X_c| sum_{z in X_c} exp(-|q - z|^2 / (2 h^2)),  without the constant (2 pi h^2)^(-D/2)

    Args:
        queries: [N, D].
        reference: [M, D], sorted by class.
        counts: K numbers of references, one a class; a class without any has -inf.
        bandwidth: [H].
    """
    scale = (-0.5 / bandwidth.double().square())[:, None, None]
    parts = []
    for rows in _rows(queries, reference):
        columns, start = [], 0
        for count in counts:
            total = scale.new_full((len(bandwidth), len(rows)), -torch.inf)
            for squares in _squares(rows, reference[start : start + count]):
                total = torch.logaddexp(total, torch.logsumexp(scale * squares, dim=2))
            columns.append(total - math.log(max(count, 1)))
            start += count
        parts.append(torch.stack(columns, dim=2))
    return torch.cat(parts, dim=1).to(queries.dtype)


def _rows(queries: Tensor, reference: Tensor) -> Iterator[Tensor]:
    return iter(queries.split(max(1, min(256, PIECE // max(1, queries.shape[1])))))


def _squares(rows: Tensor, reference: Tensor) -> Iterator[Tensor]:
    """Squared distances [N, m] to each piece of the references."""
    rows = rows.double()
    own = rows.square().sum(dim=1, keepdim=True)
    size = max(1, PIECE // max(len(rows), rows.shape[1]))  # neither distances nor squares of features fill memory
    for start in range(0, len(reference), size):
        piece = reference[start : start + size].double()
        yield (own + piece.square().sum(dim=1) - 2 * rows @ piece.T).clamp_min(0)
