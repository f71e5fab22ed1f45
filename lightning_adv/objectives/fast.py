"""Fast adversarial training (Wong, Rice, Kolter, 2020), and N-FGSM (de Jorge et al., 2022): one signed step.

x_adv = Proj( x + delta + alpha sign(grad_x L(f(x + delta), y)) ),   delta ~ U(-eps, eps),      alpha = 1.25 eps
x_adv =       x + delta +   eps sign(grad_x L(f(x + delta), y)),     delta ~ U(-k eps, k eps),  clamped to [0, 1]
"""

from torch import Tensor

from lightning_adv.attacks import FGSM, PGD, Classifier
from lightning_adv.attacks.ball import Ball
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.noise import DeviceNoise
from lightning_adv.errors import InputError
from lightning_adv.objectives.adversarial_training import AdversarialTraining

__all__ = ["NFGSM", "FastAdversarialTraining"]

STEP = 1.25
"""Of eps; much longer steps overfit to the single step catastrophically."""


class FastAdversarialTraining(AdversarialTraining):
    """Adversarial training with FGSM from a random start: one extra pass a step.

    It can collapse within an epoch: robust to one step, not at all to several. The callback
    ``CatastrophicOverfittingGuard`` watches for that; ``NFGSM`` costs the same and holds at a larger eps.

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


class NFGSM(AdversarialTraining):
    """Adversarial training with one step of FGSM from much noise, never projected (de Jorge et al., 2022).

    The images may lie (1 + noise) eps from the clean ones: to project them would bring the collapse of
    ``FastAdversarialTraining`` back. It costs the same.

    Args:
        eps: length of the step, and the radius that the training is meant for, in pixel units of [0, 1].
        noise: k, the uniform noise at the start in units of eps (2; 3 on SVHN at 12/255).
        **shared: see ``AttackedObjective``.

    Raises:
        InputError: negative noise, eps out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> loss, logits = NFGSM("16/255")(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> loss.requires_grad
        True
    """

    def __init__(self, eps: Budget = 8 / 255, noise: float = 2.0, **shared: str | float | bool) -> None:
        super().__init__(attack=FGSM(as_eps(eps, "Linf")), **shared)
        if noise < 0:
            raise InputError(f"noise must not be negative, got {noise}")
        self.noise = noise

    def craft(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """The images of the module's second equation."""
        attack, shares = self.current_attack(), self.shares(x)
        length = self.noise * attack.eps * (1.0 if shares is None else shares.view(-1, 1, 1, 1))
        start = Ball(x.float(), length).random_point(DeviceNoise())
        return attack.craft(model, start, y, mode=self.attack_mode, shares=shares)
