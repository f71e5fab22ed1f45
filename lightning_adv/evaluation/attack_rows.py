"""What a report says of each attack, out of the counts over all ranks."""

from torch import Tensor

from lightning_adv.attacks import Attack, Stage
from lightning_adv.attacks.search_low import stage_names
from lightning_adv.evaluation.eps_sweep import median_distance
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.masking import yardsticks
from lightning_adv.results.attack_row import AttackRow

__all__ = ["attack_row", "without_a_class"]


def without_a_class(clean: Tensor, tallies: dict[str, dict[str, Tensor]]) -> list[str]:
    """Warnings: how many images have no class without an attack, and how many more under each.

    Args:
        clean: confidences [N] without an attack, NaN where there is no class.
        tallies: name of each attack to its computed tally.
    """
    count, samples = int(clean.isnan().sum()), len(clean)
    found = nan_warnings(count, samples)
    for name, tally in tallies.items():
        found += nan_warnings(int(tally["confidence"].isnan().sum()) - count, samples, name)
    return found


def attack_row(name: str, attack: Attack, tally: dict[str, Tensor], clean_confidence: Tensor) -> AttackRow:
    """A row of the table of attacks.

    Args:
        name: of the attack.
        attack: that was run.
        tally: what ``AttackTally`` counted, over all ranks.
        clean_confidence: [N] without an attack, NaN where there is no class.
    """
    distance = tally["distance"]
    stages = zip(stage_names(attack), tally["stages"].tolist(), strict=False)
    attacked, succeeded, at_first, zero_gradient = tally["counts"].tolist()
    samples = len(tally["confidence"])
    linf, l2, l1 = (total / succeeded if succeeded else None for total in tally["sums"].tolist())
    return AttackRow(
        name=name,
        description=repr(attack),
        norm=attack.norm or "L2",
        eps=attack.eps,
        samples=samples,
        robust_correct=int(tally["correct"].sum()),
        success_rate=succeeded / attacked if attacked else None,
        mean_linf=linf,
        mean_l2=l2,
        mean_l1=l1,
        clean_confidence=_mean(clean_confidence),
        adversarial_confidence=_mean(tally["confidence"]),
        per_class_correct=tally["correct"].tolist(),
        zero_gradient_share=zero_gradient / attacked if attacked else None,
        restart_gain=(succeeded - at_first) / samples if attack.restarts > 1 else None,
        minimal_norm=len(distance) > 0,
        median_distance=median_distance(distance),
        stages=[Stage(each, int(got), int(broke), seconds) for each, (got, broke, seconds) in stages],
        follows=yardsticks(attack),
    )


def _mean(confidence: Tensor) -> float | None:
    """Of the images that have a class; None where none has."""
    known = confidence[~confidence.isnan()]
    return float(known.mean()) if len(known) else None
