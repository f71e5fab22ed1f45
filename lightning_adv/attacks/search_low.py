"""Search in bfloat16, prove in float32: the verdicts of an attack at a fraction of its time.

A success counts once the model in its own precision makes the same mistake; a failure counts where the search came
nowhere near the boundary. What lies between is searched again without bfloat16.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lightning_adv.asking import Classifier
from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.result import AttackResult
from lightning_adv.attacks.worst_of import WorstOf
from lightning_adv.attacks.wrapper import Wrapper
from lightning_adv.errors import InputError

__all__ = ["SearchLow", "searching_low", "stage_names"]


class SearchLow(Wrapper):
    """Another attack, whose :meth:`run` computes in bfloat16 and judges in the precision of the model.

    It pays on devices with instructions for bfloat16. The first and the last layer stay in float32. Of an ensemble each
    attack searches so by itself, and searches again what it came near. A randomised model is judged by fresh draws in
    any case, a model whose BatchNorm is in training mode is searched without bfloat16.

    Args:
        attack: with a budget.

    Raises:
        InputError: an attack without a budget, for which nearness is all and rounding would change it.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> found = SearchLow(PGD(eps=0.3, steps=5)).run(model, x, y)
        >>> torch.equal(found.success, model(found.images).argmax(dim=1) != y)
        True
    """

    def __init__(self, attack: Attack) -> None:
        if not attack.has_budget:
            raise InputError(
                f"{type(attack).__name__} seeks the nearest success; SearchLow needs an attack with an eps"
            )
        super().__init__(attack)

    def __repr__(self) -> str:
        """The other attack's description, and how it searches."""
        return f"{self.attack!r} searched in bf16"

    def run(
        self, model: Classifier, x: Tensor, y: Tensor, *, target: Tensor | None = None, index: Tensor | None = None
    ) -> AttackResult:
        """As of the other attack; ``near`` were searched twice, and ``stages`` have both searches in them.

        Arguments and errors as there.
        """
        if isinstance(self.attack, WorstOf):
            return self.attack.each(SearchLow).run(model, x, y, target=target, index=index)
        found = self.attack.lowered().run(model, x, y, target=target, index=index)
        if found.near is None:  # nothing was lowered
            return found
        with torch.inference_mode(False):
            rows = (found.near & ~found.success).nonzero().flatten()
            if not len(rows):
                return replace(found, near=torch.zeros_like(found.near))
            index = torch.arange(len(x), device=x.device) if index is None else index
            aim = None if target is None else target[rows]
            again = self.attack.run(model, x[rows], y[rows], target=aim, index=index[rows])
            return replace(
                found,
                images=found.images.index_copy(0, rows, again.images),
                logits=found.logits.index_copy(0, rows, again.logits),
                success=found.success.index_copy(0, rows, again.success),
                restart=found.restart.index_copy(0, rows, again.restart),
                zero_gradient=found.zero_gradient.index_copy(0, rows, again.zero_gradient),
                near=torch.zeros_like(found.near).index_fill(0, rows, True),
            )


def searching_low(attack: Attack) -> Attack:
    """The attack in ``SearchLow``; as it is where only distance tells a success."""
    return SearchLow(attack) if attack.has_budget else attack


def stage_names(attack: Attack) -> list[str]:
    """Names of the attacks of an ensemble, each of which is a stage of its result."""
    held = attack.attack if isinstance(attack, SearchLow) else attack
    return list(held.attacks) if isinstance(held, WorstOf) else []
