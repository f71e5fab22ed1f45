"""AutoAttack (Croce and Hein, 2020): a parameter-free ensemble of diverse attacks."""

from dataclasses import replace
from typing import Literal

from torch import Tensor

from lightning_adv.asking import Classifier
from lightning_adv.attacks.apgd import APGD
from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Norm, as_norm
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.eot import EOT
from lightning_adv.attacks.fab import FAB
from lightning_adv.attacks.result import AttackResult
from lightning_adv.attacks.square import Square
from lightning_adv.attacks.worst_of import WorstOf
from lightning_adv.errors import InputError

__all__ = ["AutoAttack"]

RAND_DRAWS = 20
"""Forwards that the attacks of ``rand`` average over."""


class AutoAttack(WorstOf):
    """APGD-CE, targeted APGD-DLR, targeted FAB and Square, each on the samples that survived the ones before.

    Versions: "standard"; "plus" adds APGD-DLR and untargeted FAB, with 5 restarts; "rand" is APGD-CE and APGD-DLR with
    20 draws, for randomised models. Under L1, APGD-CE restarts 5 times and the targeted APGD aims at 5 classes. With
    fewer than 4 classes the DLR losses use what there is; the result's ``notes`` say so.

    Args:
        eps: radius of the ball, in pixel units of [0, 1].
        norm: "Linf", "L2" or "L1".
        version: "standard", "plus" or "rand"; a list of one's own is ``WorstOf``.
        seed: of all its attacks.

    Raises:
        InputError: an unknown version or norm, eps out of range.

    Example:
        >>> list(AutoAttack(eps="8/255").attacks)
        ['apgd_ce', 'apgd_t', 'fab_t', 'square']
    """

    def __init__(
        self,
        eps: Budget = 8 / 255,
        norm: Norm = "Linf",
        version: Literal["standard", "plus", "rand"] = "standard",
        seed: int = 0,
    ) -> None:
        super().__init__(_suite(as_eps(eps, norm), as_norm(norm), version, seed))
        self.version, self.seed = version, seed

    def run(
        self, model: Classifier, x: Tensor, y: Tensor, *, target: Tensor | None = None, index: Tensor | None = None
    ) -> AttackResult:
        """As of ``WorstOf``; ``notes`` tell of a model with too few classes for a loss.

        Raises:
            InputError: an explicit target, which an ensemble of untargeted attacks cannot aim at.
        """
        if target is not None:
            raise InputError("AutoAttack is untargeted; use APGD, FAB or Targeted for a target class")
        result = super().run(model, x, y, index=index)
        classes = result.logits.shape[1]
        if classes >= 4:
            return result
        note = f"{classes} classes: DLR leaves out the logits that are not there, targets are {classes - 1} at most"
        return replace(result, notes=(*result.notes, note))


def _suite(eps: float, norm: Norm, version: str, seed: int) -> dict[str, Attack]:
    l1 = norm == "L1"
    more = 5 if version == "plus" else 1
    targets = 5 if l1 else 9
    apgd_ce = APGD(eps, norm=norm, restarts=5 if l1 else more, seed=seed)
    apgd_dlr = APGD(eps, norm=norm, loss="dlr", restarts=5 if l1 else more, seed=seed)
    apgd_t = APGD(eps, norm=norm, loss="dlr", targets=targets, seed=seed)
    fab_t = FAB(eps, norm=norm, targets=9, seed=seed)
    if version == "standard":
        return {"apgd_ce": apgd_ce, "apgd_t": apgd_t, "fab_t": fab_t, "square": Square(eps, norm=norm, seed=seed)}
    if version == "plus":
        fab = FAB(eps, norm=norm, restarts=more, seed=seed)
        square = Square(eps, norm=norm, seed=seed)
        suite = {"apgd_ce": apgd_ce, "apgd_dlr": apgd_dlr, "fab": fab, "square": square}
        return suite | {"apgd_t": apgd_t, "fab_t": fab_t}
    if version == "rand":
        once = {"apgd_ce": APGD(eps, norm=norm, seed=seed), "apgd_dlr": APGD(eps, norm=norm, loss="dlr", seed=seed)}
        return {name: EOT(attack, RAND_DRAWS) for name, attack in once.items()}
    raise InputError(f"version must be standard, plus or rand, got {version!r}; for a list of your own use WorstOf")
