"""Signs that gradients are masked and robust accuracy is overstated (Athalye, Carlini, Wagner, 2018)."""

from lightning_adv.attacks import Attack
from lightning_adv.reports.robustness import AttackRow

__all__ = ["masking_warnings"]

ZERO_GRADIENT_SHARE = 0.05
RESTART_GAIN = 0.05
TOLERANCE = 0.02
"""Two attacks may differ by so much without meaning anything."""

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
        if (row.restart_gain or 0) > RESTART_GAIN:
            warnings.append(
                f"{row.name}: restarts after the first took another {row.restart_gain:.1%} of the accuracy; "
                "the loss surface is rough, more restarts would find more."
            )
    warnings += _weaker_beats_stronger(attacks, {row.name: row for row in rows})
    for name, points in curves.items():
        eps, accuracy = points[-1]
        if getattr(attacks[name], "norm", None) == "Linf" and eps >= HALF_GREY and accuracy > TOLERANCE:
            warnings.append(
                f"{name}: {accuracy:.1%} of the images stay correct at eps {eps:g}, where every image can be made "
                "grey; the attack fails for another reason than robustness."
            )
    return warnings


def _weaker_beats_stronger(attacks: dict[str, Attack], rows: dict[str, AttackRow]) -> list[str]:
    found = []
    for weak, few in attacks.items():
        for strong, many in attacks.items():
            if not (_has_budget(few) and _has_budget(many)):
                continue
            if few.norm != many.norm or few.eps > many.eps or few.steps >= many.steps:
                continue
            gap = rows[strong].robust_accuracy - rows[weak].robust_accuracy
            if gap > TOLERANCE:
                found.append(
                    f"{weak} with {few.steps} step(s) leaves {gap:.1%} less accuracy than {strong} with {many.steps}: "
                    "following the gradient does not help, a sign of masked gradients."
                )
    return found


def _has_budget(attack: Attack) -> bool:
    return all(getattr(attack, name, None) is not None for name in ("steps", "eps", "norm"))
