"""Papernot's attack on decision trees (Transferability in Machine Learning, 2016, section 2.6).

Climb from the leaf of x until the other branch holds a leaf of another class; x gets the pixels that lead there.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_adv.attacks import Attack, Goal, Noise
from lightning_adv.attacks.budget import Budget, as_float
from lightning_adv.attacks.labels import most_likely
from lightning_adv.errors import InputError
from lightning_adv.victims.classical import DecisionTreeVictim

__all__ = ["DecisionTreeAttack"]


class DecisionTreeAttack(Attack):
    """Changes the few pixels that lead to the nearest leaf of another class (or of the target).

    Nearest are the leaves below the lowest ancestor that has one; among them the one reached by the smallest change in
    L2. An image that the tree already takes for another class stays as it is.

    Args:
        margin: how far beyond a threshold a pixel is put, in pixel units of [0, 1].

    Raises:
        InputError: a margin that is not positive; when called, a model that is no fitted ``DecisionTreeVictim``.

    Example:
        >>> x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
        >>> victim = DecisionTreeVictim().fit(x, y)
        >>> bool(DecisionTreeAttack().run(victim, x, y).success.all())
        True
    """

    norm = "L2"

    def __init__(self, margin: Budget = 1 / 255) -> None:
        super().__init__()
        self.margin = as_float("margin", margin)
        if not 0 < self.margin <= 1:
            raise InputError(f"margin must lie in (0, 1], got {margin}")

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        """The climb of the module's description, image by image."""
        victim = goal.model
        if not isinstance(victim, DecisionTreeVictim):
            raise InputError(
                f"DecisionTreeAttack attacks a DecisionTreeVictim, got {type(victim).__name__}; "
                "images made on a tree can be judged on any model afterwards"
            )
        tree = _Tree.of(victim)
        rows = goal.x.flatten(1).cpu().double().numpy()
        leaves = victim.learnt().apply(rows)
        label = most_likely(goal.y)
        aims = goal.target.tolist() if goal.reach else label.tolist()
        wanted = [tree.label == aim if goal.reach else tree.label != aim for aim in range(victim.num_classes)]
        changed = [
            _moved(tree, row, leaf, wanted[aim], self.margin) for row, leaf, aim in zip(rows, leaves, aims, strict=True)
        ]
        return torch.from_numpy(np.stack(changed)).float().to(goal.x.device).view_as(goal.x)


def _moved(tree: "_Tree", row: np.ndarray, leaf: int, wanted: np.ndarray, margin: float) -> np.ndarray:
    """The pixels ``row`` [D] in the nearest leaf that is wanted; as they are where their own leaf is."""
    if wanted[leaf]:
        return row
    below = leaf
    while (above := tree.parent[below]) >= 0:
        reached = [each for each in tree.leaves_below(tree.left[above] + tree.right[above] - below) if wanted[each]]
        if reached:
            moves = [tree.into(each, row, margin) for each in reached]
            return min(moves, key=lambda moved: float(((moved - row) ** 2).sum()))
        below = above
    return row


@dataclass(frozen=True)
class _Tree:
    """scikit-learn's arrays of a tree, with parents."""

    left: np.ndarray
    right: np.ndarray
    parent: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, victim: DecisionTreeVictim) -> "_Tree":
        fitted = victim.learnt()
        tree = fitted.tree_
        parent = np.full(tree.node_count, -1)
        for children in (tree.children_left, tree.children_right):
            inner = np.flatnonzero(children >= 0)
            parent[children[inner]] = inner
        label = fitted.classes_[tree.value[:, 0].argmax(axis=1)]
        return cls(tree.children_left, tree.children_right, parent, tree.feature, tree.threshold, label)

    def leaves_below(self, node: int) -> list[int]:
        """Leaves of a branch."""
        found, open_ = [], [node]
        while open_:
            each = open_.pop()
            if self.left[each] < 0:
                found.append(each)
            else:
                open_ += [self.left[each], self.right[each]]
        return found

    def into(self, leaf: int, row: np.ndarray, margin: float) -> np.ndarray:
        """The pixels ``row`` [D] with those changed that keep it from the leaf."""
        low, high = np.zeros_like(row), np.ones_like(row)
        below = leaf
        while (above := self.parent[below]) >= 0:
            pixel = self.feature[above]
            if below == self.left[above]:
                high[pixel] = min(high[pixel], self.threshold[above])
            else:
                low[pixel] = max(low[pixel], self.threshold[above])
            below = above
        # Just beyond a threshold, but never out of the leaf's own interval; float32 must not round back onto it.
        upward = np.minimum(low + margin, (low + high) / 2)
        downward = np.maximum(high - margin, (low + high) / 2)
        return np.where(row > high, downward, np.where((row <= low) & (low > 0), upward, row))
