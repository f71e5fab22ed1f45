"""Whether a training is evaluated under the attack that it is meant to withstand."""

import math
from collections.abc import Iterable

from pytorch_lightning import Callback

from lightning_adv.attacks.budget import as_text
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.objectives import Objective
from lightning_adv.objectives.attacked import AttackedObjective
from lightning_adv.objectives.awp import innermost

__all__ = ["unfollowed_budget"]


def unfollowed_budget(objective: Objective, callbacks: Iterable[Callback]) -> str | None:
    """One line where the budget of the training is that of no attack of the evaluations; None elsewhere.

    Args:
        objective: of the training.
        callbacks: of the trainer.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> from lightning_adv.objectives import AdversarialTraining
        >>> objective = AdversarialTraining(PGD(eps=0.1))
        >>> unfollowed_budget(objective, [AttackEvaluation({"pgd": PGD(eps=0.2)})]).partition(": ")[0]
        'training meets eps=0.1 (Linf), no evaluation does (pgd 0.2)'
    """
    objective = innermost(objective)
    if not isinstance(objective, AttackedObjective) or not objective.attack.has_budget:
        return None
    norm, eps = objective.attack.norm, objective.attack.eps
    evaluations = [each for each in callbacks if isinstance(each, AttackEvaluation)]
    attacks = {name: attack for each in evaluations for name, attack in each.attacks.items() if attack.eps is not None}
    if not attacks or eps is None or any(a.norm == norm and math.isclose(a.eps, eps) for a in attacks.values()):
        return None
    there = ", ".join(f"{name} {as_text(attack.eps)}" for name, attack in attacks.items())
    same = [name for name, attack in attacks.items() if attack.norm == norm]
    remedy = f": --trainer.callbacks.attacks.{same[-1]}.eps={as_text(eps)} follows it" if same else ""
    return f"training meets eps={as_text(eps)} ({norm}), no evaluation does ({there}){remedy}"
