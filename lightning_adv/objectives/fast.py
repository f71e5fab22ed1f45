"""Fast adversarial training (Wong, Rice, Kolter, 2020): one signed step from a random start.

x_adv = Proj( x + delta + alpha sign(grad_x L(f(x + delta), y)) ),   delta ~ U(-eps, eps),   alpha = 1.25 eps
"""

from lightning_adv.attacks import PGD
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.objectives.adversarial_training import AdversarialTraining

__all__ = ["FastAdversarialTraining"]

STEP = 1.25
"""Of eps; much longer steps overfit to the single step catastrophically."""


class FastAdversarialTraining(AdversarialTraining):
    """Adversarial training with FGSM from a random start: one extra pass a step.

    It can collapse within an epoch: robust to one step, not at all to several. The callback
    ``CatastrophicOverfittingGuard`` watches for that.

    Args:
        eps: radius of the Linf ball, in pixel units of [0, 1].
        warmup_epochs: eps grows linearly from 0 to its value over so many epochs.
        label_smoothing: share of the label's probability spread over all classes.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = FastAdversarialTraining("8/255")(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    def __init__(self, eps: Budget = 8 / 255, warmup_epochs: float = 0.0, label_smoothing: float = 0.0) -> None:
        radius = as_eps(eps, "Linf")
        one_step = PGD(eps=radius, step_size=STEP * radius, steps=1)
        super().__init__(one_step, warmup_epochs=warmup_epochs, label_smoothing=label_smoothing)
