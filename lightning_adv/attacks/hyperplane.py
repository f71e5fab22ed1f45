"""Papernot's attack on linear classifiers (Transferability in Machine Learning, 2016, section 2.4).

x_adv = x - eps w_y / ||w_y||,   w_y the normal of the hyperplane that keeps class y from the rest
"""

from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.labels import most_likely
from lightning_adv.attacks.noise import Noise

__all__ = ["HyperplaneAttack"]


class HyperplaneAttack(Attack):
    """One step of length eps against the normal of the label's hyperplane, or along the target's.

    The normal is the gradient of the class's logit, so that any differentiable model will do; on a linear one
    (``LinearSVMVictim.twin()``) it is Papernot's SVM attack. Pixels are clipped to [0, 1] afterwards, which makes the
    step shorter.

    Args:
        eps: L2 length of the step, in pixel units of [0, 1].

    Raises:
        InputError: eps negative or not finite.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 2])
        >>> (HyperplaneAttack(eps=0.1)(model, x, y) - x).flatten(1).norm(dim=1)
        tensor([0.1000, 0.1000])
    """

    norm = "L2"

    def __init__(self, eps: Budget = 3.0) -> None:
        super().__init__()
        self.eps, self.norm = as_eps(eps, "L2"), "L2"

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        """The step of the module's equation."""
        logits = goal.look(goal.x)[0]
        aim, sign = (goal.target, 1.0) if goal.reach else (most_likely(goal.y), -1.0)
        weights = logits.new_zeros(logits.shape).scatter(1, aim[:, None], 1.0)
        normal = goal.logits_and_gradients(goal.x, weights[None])[1][0]  # [N, C, H, W]
        length = normal.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        return (goal.x + sign * self.eps * normal / length).clamp(0, 1)
