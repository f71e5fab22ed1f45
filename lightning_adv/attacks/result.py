"""What an evaluated attack leaves: images, their logits and how they came about."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["AttackResult", "Stage"]


@dataclass(frozen=True)
class Stage:
    """One attack of an ensemble: how many samples it got, how many it broke, and how long it took.

    Args:
        name: of the attack in the ensemble.
        attacked: samples that survived the attacks before.
        broken: samples it broke.
        seconds: wall-clock time; added up over the batches and ranks of an evaluation.

    Example:
        >>> Stage("square", attacked=90, broken=2, seconds=1.5).broken
        2
    """

    name: str
    attacked: int
    broken: int
    seconds: float


@dataclass(frozen=True)
class AttackResult:
    """The best adversarial image found for each sample.

    Args:
        images: [N, C, H, W] float32 in [0, 1]; among successes, and among failures, the one of highest loss.
        logits: [N, K] float32 logits of ``images``: no second forward is needed to judge them.
        success: [N] bool, prediction differs from the label (or equals the target), or there is none, for the logits
            are NaN.
        restart: [N] int64, number of the restart that first succeeded, -1 without success.
        zero_gradient: [N] bool, some gradient short of success was exactly zero or NaN: a sign of masked gradients.
        stages: of an ensemble, what each of its attacks did.
        notes: what a reader of the figures must know.
        draws: forwards of a randomised model, unseen by the attack, whose mean ``logits`` and ``success`` are of.
        near: [N] bool, of a search in bfloat16: it came so near to a success that rounding may have decided.

    Example:
        >>> from lightning_adv.attacks import FGSM
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> result = FGSM(eps=0.1).run(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> torch.equal(result.success, result.logits.argmax(dim=1) != torch.tensor([0, 2]))
        True
    """

    images: Tensor
    logits: Tensor
    success: Tensor
    restart: Tensor
    zero_gradient: Tensor
    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()
    draws: int = 1
    near: Tensor | None = None
