"""Queries of a black box, counted, limited and kept: an answer that was paid for is never asked for again."""

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from lightning_adv.asking import answer_of
from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.errors import InputError
from lightning_adv.files import append_line, read_lines
from lightning_adv.pixels import digests

__all__ = ["CountedOracle", "QueryBudgetExceeded"]

Answer = int | list[float]


class QueryBudgetExceeded(InputError):
    """A query more than the budget allows; nothing was asked.

    Example:
        >>> oracle = CountedOracle(lambda x: torch.zeros(len(x), dtype=torch.int64), budget=1)
        >>> try:
        ...     oracle(torch.rand(2, 1, 2, 2))
        ... except QueryBudgetExceeded as error:
        ...     print(str(error).split(":")[0])
        2 new images would take the queries from 0 to 2 of 1
    """


class CountedOracle:
    """An oracle under a hard budget, with every answer kept on disk before the next batch is asked.

    One image is one query. An image asked before, in this process or in one that wrote the same log, is answered from
    the log and costs nothing. Queries count from the moment they are sent: those of a batch that the oracle failed to
    answer stay spent, and the answers before it stay on record.

    Args:
        oracle: images [N, C, H, W] to labels [N] (integers) or scores [N, K]: a victim, a module, a remote service.
        budget: queries allowed in all, those in the log included; None counts without a limit.
        log: file that answers are appended to; one oracle a file. None keeps them in memory.
        batch_size: images handed to the oracle at a time.

    Raises:
        InputError: a budget below 0, a batch size below 1, a log that is none.

    Example:
        >>> oracle = CountedOracle(lambda x: (x.mean(dim=(1, 2, 3)) > 0.5).long(), budget=2)
        >>> x = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1)
        >>> oracle(x), oracle(x), oracle.spent
        (tensor([0, 1]), tensor([0, 1]), 2)
    """

    def __init__(
        self, oracle: LabelOracle, budget: int | None = None, log: str | Path | None = None, batch_size: int = 100
    ) -> None:
        if (budget is not None and budget < 0) or batch_size < 1:
            raise InputError(f"budget must not be negative and batch_size at least 1, got {budget} and {batch_size}")
        self.oracle, self.budget, self.batch_size = oracle, budget, batch_size
        self.log = None if log is None else Path(log)
        self.spent = 0
        self._known: dict[str, Answer] = {}
        if self.log is not None:
            self._read()

    @property
    def left(self) -> float:
        """Queries that the budget still allows; infinity without one."""
        return math.inf if self.budget is None else max(0, self.budget - self.spent)

    def __call__(self, image: Tensor) -> Tensor:
        """Labels [N] int64, or scores [N, K] float32, whichever the oracle gives.

        Raises:
            QueryBudgetExceeded: the images that are new are more than the budget allows.
            InputError: the oracle failed, or answered in another shape; what it answered before is kept.
        """
        keys = digests(image)
        new = list({key: i for i, key in reversed(list(enumerate(keys))) if key not in self._known}.values())[::-1]
        if len(new) > self.left:
            raise QueryBudgetExceeded(
                f"{len(new)} new images would take the queries from {self.spent} to {self.spent + len(new)} of "
                f"{self.budget}: none of them was asked; raise the budget or ask for fewer"
            )
        for start in range(0, len(new), self.batch_size):
            chosen = new[start : start + self.batch_size]
            self._ask(image[chosen], [keys[i] for i in chosen])
        answers = [self._known[key] for key in keys]
        if not answers or isinstance(answers[0], int):
            return torch.tensor(answers, dtype=torch.int64, device=image.device)
        return torch.tensor(answers, dtype=torch.float32, device=image.device)

    def _ask(self, image: Tensor, keys: list[str]) -> None:
        self._append({"sent": len(image)})
        self.spent += len(image)
        kept = f"the {len(self._known)} answers so far are kept" + (f" in {self.log}" if self.log else "")
        try:
            with torch.no_grad():
                answer = answer_of(self.oracle, image.detach())
        except Exception as error:  # somebody else's code, or a network: whatever it raises means no answer
            raise InputError(
                f"the oracle failed on {len(image)} images with {type(error).__name__}: {error}; {kept}, "
                "so running again asks only for the rest"
            ) from error
        rows = _checked(answer, len(image), next(iter(self._known.values()), None), kept)
        self._append({"keys": keys, "answers": rows})
        self._known.update(zip(keys, rows, strict=True))

    def _append(self, entry: dict) -> None:
        if self.log is not None:
            append_line(self.log, json.dumps(entry))

    def _read(self) -> None:
        for number, line in enumerate(read_lines(self.log), start=1):
            try:
                entry = json.loads(line)
                self.spent += entry.get("sent", 0)
                self._known.update(zip(entry.get("keys", ()), entry.get("answers", ()), strict=True))
            except (ValueError, AttributeError, TypeError) as error:
                if line.startswith("{") and not line.endswith("}"):
                    continue  # the stump that a kill left
                raise InputError(
                    f"line {number} of the query log {self.log} cannot be read ({error}); name another file, or remove "
                    "the line if you can do without its answers"
                ) from error


def _checked(answer: object, count: int, before: Answer | None, kept: str) -> list[Answer]:
    """The answers as plain data, one an image."""
    if (
        isinstance(answer, Tensor)
        and answer.shape == (count,)
        and not (answer.is_floating_point() or answer.is_complex())
    ):
        rows: list[Answer] = [int(each) for each in answer.tolist()]
        sound = min(rows) >= 0 and (before is None or isinstance(before, int))
    elif isinstance(answer, Tensor) and answer.dim() == 2 and len(answer) == count and answer.shape[1] > 1:
        rows = answer.detach().float().cpu().tolist()
        width = None if before is None or isinstance(before, int) else len(before)
        sound = bool(answer.isfinite().all()) and (before is None or width == answer.shape[1])
    else:
        rows, sound = [], False
    if sound:
        return rows
    got = f"{answer.dtype} of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
    raise InputError(
        f"the oracle must answer {count} images with as many labels [N] (integers from 0), or finite scores [N, K], "
        f"the same kind every time; got {got}; {kept}"
    )
