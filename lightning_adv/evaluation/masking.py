"""Signs that gradients are masked and robust accuracy is overstated (Athalye, Carlini, Wagner, 2018)."""

from lightning_adv.attacks import APGD, PGD, Attack
from lightning_adv.results.robustness import AttackRow

__all__ = ["masking_warnings"]

ZERO_GRADIENT_SHARE = 0.05
RESTART_GAIN = 0.05
TOLERANCE = 0.02
"""Accuracy that is left where none should be."""

ONE_STEP_GAP = 0.05
FEW_IMAGES = 5
"""Two attacks that end at different maxima may differ by such a share, or by fewer images, without meaning anything."""

ENOUGH_STEPS = 5
ENOUGH_STEPS_OF_APGD = 20
"""An iterative attack of fewer steps is no yardstick; APGD goes through several lengths of step first."""

HALF_GREY = 0.5
"""An Linf budget at which every image can be turned into uniform grey."""


def masking_warnings(
    attacks: dict[str, Attack], rows: list[AttackRow], curves: dict[str, list[tuple[float, float]]]
) -> list[str]:
    """Sentences for the reader, none if nothing looks wrong.

    Args:
        attacks: name to attack.
        rows: what each attack left.
        curves: name to points (eps, robust accuracy).
    """
    warnings = []
    for row in rows:
        if (row.zero_gradient_share or 0) > ZERO_GRADIENT_SHARE:
            warnings.append(
                f"{row.name}: the input gradient was exactly zero for {row.zero_gradient_share:.0%} of the images; "
                "gradient attacks see nothing there, so this robust accuracy is an upper bound. Use a black-box attack."
            )
        if (row.restart_gain or 0) > RESTART_GAIN and _reaches_everywhere(attacks[row.name]):
            warnings.append(
                f"{row.name}: restarts after the first took another {row.restart_gain:.1%} of the accuracy; "
                "the loss surface is rough, more restarts would find more."
            )
    warnings += _one_step_beats_many(attacks, {row.name: row for row in rows})
    for name, points in curves.items():
        eps, accuracy = points[-1]
        searched = attacks[name].norm == "Linf" and _reaches_everywhere(attacks[name])
        if searched and eps >= HALF_GREY and accuracy > TOLERANCE:
            warnings.append(
                f"{name}: {accuracy:.1%} of the images stay correct at eps {eps:g}, where every image can be made "
                "grey; the attack fails for another reason than robustness."
            )
    return warnings


def _one_step_beats_many(attacks: dict[str, Attack], rows: dict[str, AttackRow]) -> list[str]:
    """Of the same loss, under the same norm, at no larger eps."""
    found = []
    for weak, few in attacks.items():
        if not isinstance(few, PGD) or few.steps > 1:
            continue
        for strong, many in attacks.items():
            if not _reaches_everywhere(many) or many.loss != few.loss or many.norm != few.norm or few.eps > many.eps:
                continue
            lost = rows[strong].robust_correct - rows[weak].robust_correct
            gap = lost / rows[strong].samples
            if gap > ONE_STEP_GAP and lost >= FEW_IMAGES:
                found.append(
                    f"{weak} with {few.steps} step(s) leaves {gap:.1%} less accuracy than {strong} with {many.steps}: "
                    "following the gradient does not help, a sign of masked gradients."
                )
    return found


def _reaches_everywhere(attack: Attack) -> bool:
    """Whether it follows the gradient to any point of its ball: where it fails, it is not for want of steps.

    Attacks that aim at a class, look for the nearest success, ask no gradient or are ensembles fail for other reasons.
    Under L2 and L1 a random start is never quite left behind.
    """
    if isinstance(attack, APGD):
        return attack.steps >= ENOUGH_STEPS_OF_APGD and not attack.targets
    if not isinstance(attack, PGD) or attack.steps < ENOUGH_STEPS:
        return False
    clean = attack.start == "clean"
    way = attack.eps if clean else 2 * attack.eps
    return (clean or attack.norm == "Linf") and attack.steps * attack.step_size >= way - 1e-9
