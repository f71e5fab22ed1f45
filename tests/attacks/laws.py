"""How laws are asked of the records: of which attacks, through which ways in, against what an unchanged run finds."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import BIM, FGSM, NIFGSM, PGD, AttackResult

from .problems import ENTRY_POINTS, RECORDS, Record, excess

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
ROUNDING = {"Linf": 1e-6, "L2": 1e-6, "L1": 1e-5}  # L1 adds up the float32 rounding of 72 pixels

Allows = Callable[[Record], bool]


def all_records(record: Record) -> bool:
    return True


def any_model(record: Record) -> bool:
    return record.any_model


def asks(record: Record) -> bool:
    return record.any_model and record.asks


_FIRST = {type(record.attack): record for record in reversed(RECORDS.values())}


def speaks_for_its_kind(record: Record) -> bool:
    """For laws of the base class, which the norms and variants of an attack share; the plain loop is asked in all."""
    return type(record.attack) in (FGSM, BIM, PGD, NIFGSM) or record is _FIRST[type(record.attack)]


def stands_for_its_class(record: Record) -> bool:
    """One of each class, of those that ask the model for what they craft."""
    return record is _FIRST[type(record.attack)] and asks(record)


def every(allows: Allows = all_records) -> pytest.MarkDecorator:
    """All attacks of which a law may be asked."""
    return pytest.mark.parametrize("name", [name for name, record in RECORDS.items() if allows(record)])


def every_entry(allows: Allows = all_records, judged: tuple[str, ...] = ("run",)) -> pytest.MarkDecorator:
    """The same at every way to call them; one that judges its images is called by running it."""
    chosen = {name: record for name, record in RECORDS.items() if allows(record)}
    ways = [(name, way) for name, each in chosen.items() for way in (judged if each.is_judged else ENTRY_POINTS)]
    return pytest.mark.parametrize(("name", "entry"), ways)


def run(name: str, model: nn.Module, x: Tensor, y: Tensor, **options: Tensor) -> AttackResult:
    return RECORDS[name].attack.run(model, x, y, **options)


def made(name: str, entry: str, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ENTRY_POINTS[entry](RECORDS[name].attack, model, x, y)


@cache
def outcome(name: str) -> AttackResult:
    """What an evaluation of the attack's problem finds: laws compare with it what they change."""
    return run(name, *RECORDS[name].problem())


@cache
def crafted(name: str, entry: str) -> Tensor:
    """The images of the attack's problem."""
    return outcome(name).images if entry == "run" else made(name, entry, *RECORDS[name].problem())


def classified(model: nn.Module, x: Tensor) -> Tensor:
    weight = next(model.parameters(), x)
    with torch.no_grad():
        return model(x.to(weight.dtype)).argmax(dim=1)


def assert_in_ball_and_box(name: str, x: Tensor, x_adv: Tensor) -> None:
    attack = RECORDS[name].attack
    assert x_adv.shape == x.shape
    assert x_adv.dtype == torch.float32
    assert 0 <= x_adv.min() <= x_adv.max() <= 1
    assert excess(attack, x, x_adv).max() <= ROUNDING.get(attack.norm, 1e-5)
