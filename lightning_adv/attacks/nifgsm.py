"""Nesterov iterative FGSM (Lin et al., 2020): the accumulated gradient, taken where it is about to lead.

g_{t+1} = decay * g_t + grad_x L(f(x'), y) / mean |grad_x L(f(x'), y)|,   x' = x_t + step_size * decay * g_t
"""

from torch import Tensor

from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.mifgsm import MIFGSM

__all__ = ["NIFGSM"]


class NIFGSM(MIFGSM):
    """MIFGSM that looks ahead, which transfers better still.

    Args:
        **shared: see ``MIFGSM``.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> NIFGSM(eps="8/255", steps=3)(model, x, torch.tensor([0, 2])).shape
        torch.Size([2, 1, 2, 2])
    """

    def ascent(self, goal: Goal, x_adv: Tensor, before: Tensor | None) -> Tensor:
        """The module's equation; the point ahead may lie outside the ball, and counts for nothing itself."""
        if before is None:
            return super().ascent(goal, x_adv, before)
        ahead = x_adv + self.step_size * goal.shares * self.decay * before
        return self.accumulated(goal.gradient(ahead, on_record=False), before)
