"""What one call of an attack works towards, and the best it has found so far."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_adv.asking import (
    NO_CLASS,
    NO_GRADIENT,
    Classifier,
    InBfloat16,
    logits_in_parts,
    logits_of,
    parts_of,
    predicted,
)
from lightning_adv.asking.contract import refuse_labels
from lightning_adv.attacks.ball import Norm, lengths
from lightning_adv.attacks.labels import most_likely
from lightning_adv.attacks.losses import AttackLoss, cross_entropy, margin
from lightning_adv.attacks.randomised import answers_differ, averaged, random_state
from lightning_adv.attacks.trace import uses_batch_statistics
from lightning_adv.attacks.watching import announce_forward
from lightning_adv.errors import InputError

__all__ = ["NEAR", "Goal"]

NEAR = 1 / 128
"""Where the label's lead is at most this share of the spread of the logits, bfloat16 may have decided."""


class Goal:
    """Raise a loss of the labels, or reach explicit targets.

    An attack asks for gradients and logits here and nowhere else, so that precision, expectation over random draws and
    the record of the best adversarial image live once.

    Args:
        model: images to logits, already safe to differentiate (see ``leaves_no_trace``).
        x: [N, C, H, W] clean images, float32 in [0, 1].
        y: [N] labels, or [N, K] probabilities (TRADES pushes away from the clean prediction).
        target: [N] classes to reach, or None for an untargeted attack.
        keep_best: remember each sample's best adversarial image, its logits and whether it succeeded.
        loss: what gradients raise.
        shortest: the best success is the one nearest to the image in this norm, not the one of highest loss.
        eps: with ``shortest``, the distance that is near enough; default none but 0, a search for the nearest success.
        draws: forwards of a randomised model that every loss, gradient and verdict averages over.
        low: search in bfloat16; a success goes on record once the model's own precision confirms it.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> goal = Goal(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> goal.gradient(goal.x).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        target: Tensor | None = None,
        keep_best: bool = False,
        loss: AttackLoss = cross_entropy,
        shortest: Norm | None = None,
        draws: int = 1,
        eps: float = 0.0,
        low: bool = False,
    ) -> None:
        self.model, self.x, self.y, self.target = model, x, y, target
        self.loss, self.shortest, self.draws, self.eps = loss, shortest, draws, eps
        self.reach = target is not None  # an attack may aim at classes in turn and still want any wrong answer
        self.keep_best = keep_best
        self.randomised: bool | None = None  # known after the first forward, where a record is kept
        self.labels: tuple[float, float] | None = None  # least and greatest, which the first answer must know
        self.shares: float | Tensor = 1.0  # of the budget that each sample has, [N, 1, 1, 1] where they differ
        self.trains = False  # nobody is finished: the higher loss counts, whether it is a success or not
        self.active = torch.arange(len(x), device=x.device)  # positions of the samples still pursued
        self.mates = x if uses_batch_statistics(model) else None
        self.zero_gradient = torch.zeros_like(self.active, dtype=torch.bool) if keep_best else None
        self.low = low and self.mates is None  # batch statistics would not bear that some are asked again
        self.lowered: InBfloat16 | None = None  # once an image shows how
        if keep_best:
            self.near = torch.zeros_like(self.active, dtype=torch.bool)  # of a search in bfloat16, whether rounding may
            self.clean, self.best = x, x.clone()
            self.best_score = torch.full((len(x),), -torch.inf, dtype=torch.float32, device=x.device)
            self.best_logits: Tensor | None = None  # [N, K] once K is known
            self.success = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def gradient(self, x_adv: Tensor, on_record: bool = True) -> Tensor:
        """Gradient [N, C, H, W] of the loss at ``x_adv``: one forward, one backward to the input.

        Args:
            x_adv: [N, C, H, W].
            on_record: whether ``x_adv`` is an image that the attack may be credited with.
        """
        return self.loss_and_gradient(x_adv, on_record)[1]

    def loss_and_gradient(self, x_adv: Tensor, on_record: bool = True) -> tuple[Tensor, Tensor]:
        """Loss [N] and its gradient [N, C, H, W] at ``x_adv``: one forward, one backward to the input."""
        return self.answer(x_adv, on_record)[1:]

    def answer(self, x_adv: Tensor, on_record: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, K] beside what :meth:`loss_and_gradient` gives, for no pass more."""
        found = [self._differentiated(x_adv.detach()[part], part) for part in self._parts(x_adv)]
        logits, loss, grad = map(_joined, zip(*found, strict=True))
        if self.zero_gradient is not None:
            self._suspect(grad.flatten(1).abs().amax(dim=1) == 0, logits)
        if self.keep_best and on_record:
            self._record(x_adv.detach(), logits, loss)
        return averaged(logits), loss, grad

    def logits_and_gradients(self, x_adv: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, K] and the gradients [M, N, C, H, W] of M weighted sums of them: one forward, M backwards.

        A model compiled by ``torch.compile`` can run backward only once for a forward, and needs M forwards.

        Args:
            x_adv: [N, C, H, W].
            weights: [M, N, K], e.g. a one-hot class minus the one-hot label.
        """
        found = [self._weighted_gradients(x_adv.detach()[part], weights[:, part]) for part in self._parts(x_adv)]
        every, grads = _joined([each for each, _ in found]), _joined([grads for _, grads in found], dim=1)
        if self.zero_gradient is not None:
            self._suspect((grads.flatten(2).abs().amax(dim=2) == 0).any(dim=0), every)
        if self.keep_best:
            self._record(x_adv.detach(), every, self._mean_loss(every, self.y, self.target))
        return every.mean(dim=1), grads

    def _differentiated(self, x_adv: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, draws, K], loss and gradient at some of the images."""
        logits = self._forward(x_adv.requires_grad_(True))
        loss = self._mean_loss(logits, *self._aims(part))
        (grad,) = _input_gradients(x_adv, loss.sum()[None])
        return logits.detach(), loss.detach(), grad

    def _weighted_gradients(self, x_adv: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        every = self._forward(x_adv.requires_grad_(True))
        try:
            return every.detach(), _input_gradients(x_adv, (every.mean(dim=1) * weights).sum(dim=(1, 2)))
        except RuntimeError as error:
            if "donated" not in str(error) or len(weights) == 1:
                raise
        found = [self._weighted_gradients(x_adv.detach(), weight) for weight in weights.split(1)]
        return found[0][0], torch.cat([grad for _, grad in found])

    def logits(self, x_adv: Tensor) -> Tensor:
        """Logits [N, K] at ``x_adv``, without a gradient: one forward."""
        return self.logits_and_loss(x_adv)[0]

    def logits_and_loss(self, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, K] and loss [N] at ``x_adv``, without a gradient: one forward."""
        logits, loss = self.look(x_adv)
        if self.keep_best:
            self.credit(x_adv, logits, loss)
        return logits, loss

    def look(self, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """The same off the record, for an attack that credits its findings later or looks at what is none."""
        with torch.no_grad():
            parts = self._parts(x_adv)
            every = [self._forward(x_adv[part]) for part in parts]
            losses = [self._mean_loss(each, *self._aims(part)) for each, part in zip(every, parts, strict=True)]
            return averaged(_joined(every)), _joined(losses)

    def credit(self, x_adv: Tensor, logits: Tensor, loss: Tensor) -> None:
        """Remember ``x_adv``, whose logits [N, K] and loss [N] are known, where it beats what is on record."""
        self._record(x_adv, logits[:, None], loss)

    def succeeded(self, logits: Tensor) -> Tensor:
        """[N] whether the prediction is the target, or not the label; an answer of NaN is never right, so a success."""
        said = predicted(logits)
        if self.reach:
            return (said == self.target) | (said == NO_CLASS)
        return said != most_likely(self.y)

    def proven(self, x_adv: Tensor, logits: Tensor, loss: Tensor, open_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which samples have succeeded, [N], with their logits [N, K] and losses [N].

        What a search in bfloat16 takes for a success is asked again in the model's own precision. One host sync there.

        Args:
            x_adv: [N, C, H, W].
            logits: of ``x_adv``.
            loss: of ``x_adv``.
            open_: [N] samples of which it matters; of others what the search says is left as it is.
        """
        success = self.succeeded(logits)
        if not self.low or self.randomised:
            return success, logits, loss
        rows = (success & open_).nonzero().flatten()
        if not len(rows):
            return success, logits, loss
        with torch.no_grad():
            asked = x_adv[rows] if self.draws == 1 else x_adv[rows].repeat_interleave(self.draws, dim=0)
            every = logits_in_parts(self.model, asked).unflatten(0, (len(rows), self.draws))
            true, true_loss = averaged(every), self._mean_loss(every, *self._aims(rows))
        logits, loss = logits.index_copy(0, rows, true), loss.index_copy(0, rows, true_loss)
        return self.succeeded(logits), logits, loss

    def survivors(self) -> Tensor | None:
        """Positions, among the samples still pursued, of those without success; None if that is all of them.

        The others are finished: what they are credited with no longer changes. A search for the shortest perturbation
        goes on after a success, until it is as short as ``eps``. A randomised model may have been wrong by chance, so
        that nobody is finished there. One host sync.
        """
        if not self.keep_best or self.randomised or self.trains:
            return None
        finished = self.success[self.active]
        if self.shortest is not None:
            finished = finished & (-self.best_score[self.active] <= self.eps)
        keep = (~finished).nonzero().flatten()
        if len(keep) == len(self.active):
            return None
        self.pursue(keep)
        return keep

    def within(self, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Images, logits and success on record, the clean image where the shortest perturbation is longer than ``eps``.

        One host sync, and a forward of these clean images.
        """
        far = self.success & (-self.best_score > eps)
        rows = far.nonzero().flatten()
        if not len(rows):
            return self.best, self.best_logits, self.success
        with torch.no_grad():
            clean = self.clean[rows]
            logits = averaged(_joined([self._forward(clean[part]) for part in self._parts(clean)]))
        images = self.best.index_copy(0, rows, self.clean[rows])
        return images, self.best_logits.index_copy(0, rows, logits), self.success & ~far

    def pursue(self, keep: Tensor) -> None:
        """Go on with the samples at the positions ``keep`` among those still pursued."""
        self.active, self.x, self.y = self.active[keep], self.x[keep], self.y[keep]
        self.target = None if self.target is None else self.target[keep]

    def _parts(self, x_adv: Tensor) -> list[slice]:
        """Those that the model is asked about at once; all of them where its answers hang on the batch."""
        return [slice(0, len(x_adv))] if self.mates is not None else parts_of(len(x_adv))

    def _aims(self, of: slice | Tensor) -> tuple[Tensor, Tensor | None]:
        """Labels and targets of some of the samples pursued."""
        return self.y[of], None if self.target is None else self.target[of]

    def _forward(self, x_adv: Tensor) -> Tensor:
        """Logits of every draw, [N, draws, K]; the draws are folded into the batch."""
        if self.mates is not None and len(x_adv) == len(self.active) < len(self.mates):
            return self._forward(self._mates().index_copy(0, self.active, x_adv))[self.active]
        repeated = x_adv if self.draws == 1 else x_adv.repeat_interleave(self.draws, dim=0)
        watched = self.keep_best and self.randomised is None and not self.trains
        before = random_state(x_adv.device) if watched else []
        logits = self._asked(repeated)
        announce_forward()
        if self.labels is not None:
            refuse_labels(*self.labels, logits.shape[1])
            self.labels = None
        logits = logits.unflatten(0, (len(x_adv), self.draws))
        if watched:
            drew = not all(map(torch.equal, before, random_state(x_adv.device)))
            self.randomised = drew or (self.draws > 1 and answers_differ(logits[:, 1:], logits[:, :-1]))
        return logits

    def _asked(self, x_adv: Tensor) -> Tensor:
        if not self.low:
            return logits_of(self.model, x_adv)
        if self.lowered is None:
            self.lowered = InBfloat16(self.model, x_adv[:1].detach())
        return self.lowered(x_adv)

    def _mates(self) -> Tensor:
        """The whole batch, finished samples as they were found: statistics of survivors alone would be others."""
        return self.best if self.keep_best else self.mates

    def _mean_loss(self, logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
        if self.draws == 1:
            return self.loss(logits.squeeze(1), y, target)
        y, target = (None if t is None else t.repeat_interleave(self.draws, dim=0) for t in (y, target))
        return self.loss(logits.flatten(0, 1), y, target).unflatten(0, logits.shape[:2]).mean(dim=1)

    def _suspect(self, flat: Tensor, every: Tensor) -> None:
        """Remember samples without a gradient, [N]; where the goal is reached a loss may well be flat, as DLR is."""
        self.zero_gradient[self.active] |= flat & ~self.succeeded(averaged(every))

    def _record(self, x_adv: Tensor, every: Tensor, loss: Tensor) -> None:
        logits = averaged(every)
        if self.best_logits is None:
            self.best_logits = logits.new_zeros(len(self.best), logits.shape[1])
        active, known = self.active, self.success[self.active]
        distance = None if self.shortest is None else lengths((x_adv - self.x).flatten(1).float(), self.shortest)
        if self.low:
            self._approach(logits, distance)
            improves = ~known | ((loss if distance is None else -distance) > self.best_score[active])
            success, logits, loss = self.proven(x_adv, logits, loss, improves)
        else:
            success = self.succeeded(logits)
        if self.trains:
            success = torch.zeros_like(success)
        score = loss if distance is None else -distance
        # A success beats any failure; among equals the better score wins. NaN never replaces a finding.
        better = (success & ~known) | ((success == known) & (score > self.best_score[active]))
        self.success[active] = known | success
        if x_adv.device.type == "cpu":  # nothing waits for the positions here, and the other rows are not touched
            rows = better.nonzero().flatten()
            active, x_adv, score, logits = (t.index_select(0, rows) for t in (active, x_adv, score, logits))
        else:
            pixels = better.view(-1, *[1] * (x_adv.dim() - 1))
            x_adv = torch.where(pixels, x_adv, self.best.index_select(0, active))
            score = torch.where(better, score, self.best_score[active])
            logits = torch.where(better[:, None], logits, self.best_logits[active])
        self.best.index_copy_(0, active, x_adv)
        self.best_score.index_copy_(0, active, score)
        self.best_logits.index_copy_(0, active, logits)

    def _approach(self, logits: Tensor, distance: Tensor | None) -> None:
        """Remember samples whose label leads by so little that a search in bfloat16 may have missed a success."""
        y, target = most_likely(self.y), self.target if self.reach else None
        lead = -margin(logits, y, target)
        near = lead <= NEAR * (logits.amax(dim=1) - logits.amin(dim=1))
        if distance is not None and self.eps:
            near &= distance <= self.eps
        self.near[self.active] |= near


def _joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def _input_gradients(x_adv: Tensor, sums: Tensor) -> Tensor:
    """Gradients [M, N, C, H, W] of M scalars; a NaN becomes 0, since it would carry the image out of the box."""
    last = len(sums) - 1
    grads = [
        torch.autograd.grad(value, x_adv, retain_graph=i < last, allow_unused=True)[0] for i, value in enumerate(sums)
    ]
    if grads[0] is None:  # the logits depend on weights that train, and not on the image
        raise InputError(NO_GRADIENT)
    stacked = grads[0][None] if last == 0 else torch.stack(grads)
    return stacked.nan_to_num(nan=0.0)  # not in place: a gradient may be one number that is seen at many pixels
