"""E-AT, training for the extreme norms (Croce and Hein, 2022): what is robust in Linf and L1 is so in L2.

loss = L(f(x_adv), y),   x_adv = attack_j(f, x, y),   j drawn for each batch with the chance error_j / sum_k error_k
"""

import torch
from torch import Tensor

from lightning_adv.asking import Classifier, is_right
from lightning_adv.attacks import APGD, Attack, WorstOf
from lightning_adv.attacks.labels import most_likely
from lightning_adv.errors import InputError
from lightning_adv.objectives.adversarial_training import AdversarialTraining
from lightning_adv.objectives.ranks import over_ranks

__all__ = ["EAT"]


class EAT(AdversarialTraining):
    """Adversarial training against several norms at the price of one: a batch meets one attack (Croce and Hein, 2022).

    The one that the model has withstood less often so far is drawn more often. ``AdversarialTraining`` with the same
    ``WorstOf`` is training on the worst of all of them, at the price of all (Tramèr and Boneh, 2019).

    Args:
        attack: a ``WorstOf``; default APGD of 10 steps with eps 8/255 under Linf, and 12 under L1, for CIFAR-10.
        **shared: see ``AttackedObjective``.

    Raises:
        InputError: an attack that is not made of several.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> objective = EAT(WorstOf({"Linf": PGD(eps=0.1), "L1": PGD(eps=0.5, norm="L1")}))
        >>> objective(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))[0].requires_grad
        True
    """

    def __init__(self, attack: Attack | None = None, **shared: str | float | bool) -> None:
        usual = {"Linf": APGD(eps=8 / 255, steps=10), "L1": APGD(eps=12, steps=10, norm="L1")}
        super().__init__(attack or WorstOf(usual), **shared)
        if not self.attack.members:
            raise InputError(f"EAT draws from the attacks of a WorstOf, got {type(self.attack).__name__} alone")
        self._errors = torch.ones(2, len(self.attack.members))  # wrong, and seen: every attack begins as 1 of 1
        self._drawn = 0

    def current_attack(self) -> Attack:
        """One of the attacks, with this step's budget."""
        wrong, seen = self._errors
        self._drawn = int(torch.multinomial((wrong / seen).cpu(), 1))
        return list(super().current_attack().members.values())[self._drawn]

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and adversarial logits of a batch, whose errors are noted."""
        loss, logits = super().loss(model, x, x_adv, y)
        wrong = (~is_right(logits, most_likely(y))).sum()
        self._errors = self._errors.to(logits.device)
        noted = torch.zeros_like(self._errors)
        noted[:, self._drawn] = torch.stack([wrong, torch.full_like(wrong, len(y))]).to(noted)
        self._errors = self._errors + over_ranks(noted)
        return loss, logits

    def state_dict(self) -> dict[str, Tensor]:
        """How often each attack has been met, and not withstood, by all processes."""
        return {"errors": self._errors}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with these."""
        self._errors = state.get("errors", self._errors)
