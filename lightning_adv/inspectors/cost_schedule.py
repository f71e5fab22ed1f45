"""How Neural Cleanse weighs a mask's norm against its success, and when it stops: one class's bookkeeping.

The order within a step is that of the authors' code: keep the best mask, look whether to stop, change the cost.
"""

from dataclasses import dataclass, field
from math import inf

__all__ = ["CostRules", "CostSchedule"]


@dataclass(frozen=True)
class CostRules:
    """Constants of the schedule; see ``NeuralCleanse``.

    Example:
        >>> CostRules(1e-3, 2.0, 0.99, 5, 25, 1.0).patience
        5
    """

    init_cost: float
    cost_multiplier: float
    success_threshold: float
    patience: int
    early_stop_patience: int
    early_stop_threshold: float


@dataclass
class CostSchedule:
    """State of one class: cost, counters and the smallest successful norm.

    Args:
        rules: the constants.

    Example:
        >>> schedule = CostSchedule(CostRules(1e-3, 2.0, 0.99, 5, 25, 1.0))
        >>> [schedule.update(1.0, norm) for norm in (9.0, 8.0, 8.5, 7.0, 6.0)], schedule.cost
        ([True, True, False, True, True], 0.001)
    """

    rules: CostRules
    cost: float = 0.0
    best: float = inf
    steps: int = 0
    finished: bool = False
    history: list[tuple[int, float]] = field(default_factory=lambda: [(1, 0.0)])
    _best_before: float = inf
    _stalled: int = 0
    _good_at_zero: int = 0
    _good: int = 0
    _bad: int = 0
    _rose: bool = False
    _fell: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether some mask reached the success threshold."""
        return self.best < inf

    def update(self, success: float, norm: float) -> bool:
        """Take in a step's mean success rate and mean norm; whether its mask is the best so far."""
        self.steps += 1
        good = success >= self.rules.success_threshold
        is_best = good and norm < self.best
        if is_best:
            self.best = norm
        self.finished = self._is_stalled()
        if not self.finished:
            self._change_cost(good)
        return is_best

    def _is_stalled(self) -> bool:
        if self.succeeded:
            stalled = self.best >= self.rules.early_stop_threshold * self._best_before
            self._stalled = self._stalled + 1 if stalled else 0
        self._best_before = min(self.best, self._best_before)
        return self._rose and self._fell and self._stalled >= self.rules.early_stop_patience

    def _change_cost(self, good: bool) -> None:
        before, patience = self.cost, self.rules.patience
        self._good_at_zero = self._good_at_zero + 1 if good and self.cost == 0 else 0
        if self._good_at_zero >= patience:
            self.cost = self.rules.init_cost
            self._good = self._bad = self._good_at_zero = 0
            self._rose = self._fell = False
        self._good, self._bad = (self._good + 1, 0) if good else (0, self._bad + 1)
        if self._good >= patience:
            self._good, self._rose = 0, True
            self.cost *= self.rules.cost_multiplier
        elif self._bad >= patience:
            self._bad, self._fell = 0, True
            self.cost /= self.rules.cost_multiplier**1.5
        if self.cost != before:
            self.history.append((self.steps + 1, self.cost))
