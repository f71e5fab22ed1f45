"""Signs that gradients are masked and robust accuracy is overstated (Athalye, Carlini, Wagner, 2018)."""

from collections.abc import Iterator
from dataclasses import dataclass

from lightning_adv.attacks import Attack
from lightning_adv.results.attack_row import AttackRow, Reach

__all__ = ["masking_warnings", "reach", "yardsticks"]

ZERO_GRADIENT_SHARE = 0.05
RESTART_GAIN = 0.05
TOLERANCE = 0.02
"""Accuracy that is left where none should be."""

GAP = 0.05
FEW_IMAGES = 5
"""Two attacks that end at different maxima may differ by such a share, or by fewer images, without meaning anything."""

HALF_GREY = 0.5
"""An Linf budget at which every image can be turned into uniform grey."""


def masking_warnings(
    attacks: dict[str, Attack], rows: list[AttackRow], curves: dict[str, list[tuple[float, float]]]
) -> list[str]:
    """Sentences for the reader, none if nothing looks wrong.

    Attacks say themselves what they are (``Attack.covers_ball``, ``black_box``, ``aim``, ...), and ensembles are looked
    at stage by stage, also inside wrappers.

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
        if (row.restart_gain or 0) > RESTART_GAIN and attacks[row.name].covers_ball:
            warnings.append(
                f"{row.name}: restarts after the first took another {row.restart_gain:.1%} of the accuracy; "
                "the loss surface is rough, more restarts would find more."
            )
    stages = [stage for row in rows for stage in _contenders(row, attacks[row.name])]
    surprises = (rule(stage, stages) for stage in stages for rule in (_one_step_wins, _black_box_wins))
    warnings += [surprise for surprise in surprises if surprise]
    for name, points in curves.items():
        eps, accuracy = points[-1]
        searched = any(part.norm == "Linf" and part.covers_ball and not part.aim for part in _parts(attacks[name]))
        if searched and eps >= HALF_GREY and accuracy > TOLERANCE:
            warnings.append(
                f"{name}: {accuracy:.1%} of the images stay correct at eps {eps:g}, where every image can be made "
                "grey; the attack fails for another reason than robustness."
            )
    return warnings


@dataclass(frozen=True)
class _Contender:
    """An attack that met all the images, or those that the stages before it left, and what it would have left alone."""

    name: str
    attack: Attack
    least: int  # correct at the end, alone on all images: no fewer than withstood it ...
    most: int  # ... and no more than it did not break
    samples: int
    broken: int = 0  # of those that withstood the stages before
    before: tuple[str, ...] = ()

    def lost_to(self, winner: "_Contender") -> int:
        """Images that ``winner`` breaks beyond those that this attack breaks, at the least."""
        return winner.broken if self.name in winner.before else self.least - winner.most


def _contenders(row: AttackRow, attack: Attack) -> Iterator[_Contender]:
    if not attack.members:
        yield _Contender(row.name, attack, row.robust_correct, row.robust_correct, row.samples)
    done, before = {stage.name: stage for stage in row.stages}, []
    for name, member in attack.members.items():
        stage, full = done.get(name), f"{name} of {row.name}"
        if stage is None or member.members:  # of what an ensemble leaves, each of its members leaves as much
            left = row.robust_correct if stage is None else stage.attacked - stage.broken
            yield from (_Contender(full, part, left, row.samples, row.samples) for part in _parts(member))
            continue
        start = row.stages[0].attacked
        counts = (stage.attacked - stage.broken, start - stage.broken, row.samples, stage.broken)
        yield _Contender(full, member, *counts, tuple(before))
        before.append(full)


def _parts(attack: Attack) -> Iterator[Attack]:
    """The attack itself, or every attack of an ensemble, of ensembles in it, too."""
    if not attack.members:
        yield attack
    for member in attack.members.values():
        yield from _parts(member)


def reach(attack: Attack) -> Reach:
    """Where an attack looks."""
    return Reach(attack.norm, attack.eps, attack.aim, attack.draws)


def yardsticks(attack: Attack) -> list[Reach]:
    """Where the attack, or each of an ensemble, follows the gradient everywhere.

    Where another attack does better there without this gradient, the gradient is to blame.

    Example:
        >>> from lightning_adv.attacks import FGSM, PGD, Square
        >>> square = reach(Square(eps=0.1))
        >>> [each.holds(square) for each in yardsticks(PGD(eps=0.1))], yardsticks(FGSM(eps=0.1))
        ([True], [])
    """
    return [reach(part) for part in _parts(attack) if part.covers_ball]


def _follows(attack: Attack, other: Attack) -> bool:
    return attack.covers_ball and reach(attack).holds(reach(other))


def _one_step_wins(winner: _Contender, stages: list[_Contender]) -> str | None:
    """Over many along the gradient of the same loss."""
    attack = winner.attack
    if attack.steps != 1 or attack.black_box:
        return None
    losers = [each for each in stages if _follows(each.attack, attack) and each.attack.loss == attack.loss]
    meaning = "following the gradient does not help, a sign of masked gradients."
    return _sentence(f"{winner.name} with {attack.steps} step(s)", winner, losers, meaning)


def _black_box_wins(winner: _Contender, stages: list[_Contender]) -> str | None:
    """Over many steps along the gradient of whatever loss."""
    if not winner.attack.black_box:
        return None
    losers = [each for each in stages if _follows(each.attack, winner.attack)]
    meaning = "the gradient leads nowhere, a sign of masked gradients, and what they leave is an upper bound."
    return _sentence(f"{winner.name}, a black box,", winner, losers, meaning)


def _sentence(who: str, winner: _Contender, losers: list[_Contender], meaning: str) -> str | None:
    """What stands out most; None where nothing does."""
    loser = max(losers, key=lambda each: each.lost_to(winner), default=None)
    if loser is None:
        return None
    lost, whom = loser.lost_to(winner), f"{loser.name} with {loser.attack.steps}"
    gap = lost / loser.samples
    if gap <= GAP or lost < FEW_IMAGES:
        return None
    if loser.name in winner.before:
        return f"{who} breaks {gap:.1%} of the images after {whom} has failed: {meaning}"
    return f"{who} leaves {gap:.1%} less accuracy than {whom}: {meaning}"
