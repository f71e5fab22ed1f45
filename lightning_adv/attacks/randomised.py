"""Models that answer differently to the same images: how they are noticed, and how what was found on them is judged.

An attack that may ask a randomised model again and again is right sooner or later by luck. What it found is therefore
judged by draws that it has not seen, the same for an image before and after the attack:

    y_hat(x) = argmax_k  1/D sum_{d=1}^{D} softmax f_d(x)_k
"""

import random
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lightning_adv.asking import Classifier, is_right, logits_of, predicted
from lightning_adv.attacks.result import AttackResult

__all__ = [
    "RANDOMISED",
    "VERDICT_DRAWS",
    "answered_twice",
    "answers_differ",
    "averaged",
    "drawn_logits",
    "each_draw",
    "judged_again",
    "judged_by_fresh_draws",
    "random_state",
    "warn_of_single_draws",
]

VERDICT_DRAWS = 20
"""Forwards that the verdict on a randomised model averages over: as many as AutoAttack's ``rand`` takes."""

ROUNDING = 0.01
"""Two answers of one model may differ by such a share of its largest logit from rounding alone, in half precision."""

RANDOMISED = (
    f"the model answers differently to the same images: verdicts are by the mean of {VERDICT_DRAWS} draws that the "
    "attack has not seen, but an attack that follows single draws is weak; use EOT or AutoAttack(version='rand')"
)


def random_state(device: torch.device) -> list[Tensor]:
    """States of the global generators that a forward on this device draws from, no host sync.

    Example:
        >>> before = random_state(torch.device("cpu"))
        >>> _ = torch.rand(1)
        >>> all(map(torch.equal, before, random_state(torch.device("cpu"))))
        False
    """
    states = [torch.get_rng_state()]
    return states if device.type != "cuda" else [*states, torch.cuda.get_rng_state(device)]


def answers_differ(first: Tensor, second: Tensor) -> bool:
    """Whether two answers to the same images are further apart than rounding explains. One host sync.

    Args:
        first, second: logits [N, K], or any two of one shape.

    Example:
        >>> answers_differ(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.1]]))
        True
    """
    finite = first.isfinite() & second.isfinite()  # classes may be masked by minus infinity
    first, second = (torch.where(finite, each.detach().float(), 0.0) for each in (first, second))
    return bool((first - second).abs().amax() > ROUNDING * first.abs().amax())


def answered_twice(model: Classifier, x: Tensor) -> tuple[Tensor, bool]:
    """Logits [N, K] of one forward without a gradient, and whether a second one shows a randomised model.

    A model that draws from the global generators need not differ by more than rounding; one with a generator of its own
    must.

    Example:
        >>> [answered_twice(model, torch.ones(1, 9))[1] for model in (torch.nn.Dropout(), torch.nn.ReLU())]
        [True, False]
    """
    with torch.no_grad():
        before = random_state(x.device)
        once = logits_of(model, x)
        drew = not all(map(torch.equal, before, random_state(x.device)))
        again = logits_of(model, x)
    return once, answers_differ(once, again) or (drew and not torch.equal(once, again))


def averaged(logits: Tensor) -> Tensor:
    """Logits [N, K] of the mean prediction over the draws [N, draws, K]."""
    return logits.squeeze(1) if logits.shape[1] == 1 else logits.softmax(dim=2).mean(dim=1).log()


def drawn_logits(model: Classifier, x: Tensor, draws: int = VERDICT_DRAWS, seed: int = 0) -> Tensor:
    """Logits [N, draws, K] of as many forwards of ``x``: :func:`each_draw` of a model in evaluation mode."""
    return each_draw(lambda draw: logits_of(model, x), draws, seed)


def each_draw(ask: Callable[[int], Tensor], draws: int, seed: int = 0) -> Tensor:
    """Logits [N, draws, K] of one forward after the other, without a gradient.

    The global generators are seeded for each draw and put back, so that an image at the same place of a batch of the
    same size meets the same noise every time. A model with a generator of its own gives fresh draws.

    Args:
        ask: number of a draw to logits [N, K].
        draws: forwards.
        seed: of the draws.
    """
    logits = []
    devices = range(torch.cuda.device_count())  # the seeds below go to all of them
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        for draw in range(draws):
            torch.manual_seed(random.Random(f"verdict {seed} {draw}").getrandbits(62))
            logits.append(ask(draw))
    return torch.stack(logits, dim=1)


def judged_again(result: AttackResult, logits: Tensor, y: Tensor, reach: bool, draws: int) -> AttackResult:
    """``result`` with the verdict of other draws than the attack's own.

    Args:
        result: of the attack.
        logits: [N, K] of its images, over fresh draws.
        y: [N] labels.
        reach: success is what the attack aimed at, which its own logits name, and not any error.
        draws: that ``logits`` average over.
    """
    success = result.success & is_right(logits, predicted(result.logits)) if reach else ~is_right(logits, y)
    restart = torch.where(success, result.restart.clamp(min=0), -1)
    return replace(result, logits=logits, success=success, restart=restart, draws=draws)


def judged_by_fresh_draws(model: Classifier, result: AttackResult, y: Tensor, reach: bool) -> AttackResult:
    """The same, by :data:`VERDICT_DRAWS` fresh draws of the model, which is in evaluation mode already."""
    logits = averaged(drawn_logits(model, result.images))
    return judged_again(result, logits, y, reach, VERDICT_DRAWS)


def warn_of_single_draws() -> None:
    """Say, once in a process, that an attack without ``EOT`` has met a randomised model."""
    warnings.warn(RANDOMISED, stacklevel=1)  # one place, so that one line is shown, whoever comes across it
