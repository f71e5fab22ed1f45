"""What the attacks are held to beside their peers, judged from the measured rows."""

from collections.abc import Callable

from lightning_adv.results.result import Cell, Table

__all__ = ["claims"]

Row = dict[str, Cell]
OURS = "lightning_adv"


def claims(tables: list[Table]) -> Table:
    """One row for every claim and subject: what was asked, what was measured, whether it holds.

    Args:
        tables: of ``benchmarks.attacks``, one for each subject.
    """
    rows: list[list[Cell]] = []
    for table in tables:
        figures = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
        for attack, peer, asked, measure, bound in _CLAIMS:
            for name in [n for a, n in figures if a == attack and (n == peer or (peer == "peers" and _is_peer(n)))]:
                value = measure(figures[attack, OURS], figures[attack, name])
                rows.append([table.title, attack, name, asked, value, "yes" if bound(value) else "no"])
        package = figures.get(("AutoAttack standard", "AutoAttack package"))
        for setting, least in _SETTINGS.items():
            ours = figures.get(("AutoAttack standard", f"{OURS}, {setting}"))
            if ours and package:
                named = [table.title, f"AutoAttack standard, {setting}", "AutoAttack package"]
                points, speed = _points(ours, package), _speed(ours, package)
                rows.append([*named, "robust accuracy not above", points, "yes" if -0.2 <= points <= 0 else "no"])
                rows.append([*named, f"times as fast, at least {least}", speed, "yes" if speed >= least else "no"])
    return Table("What is asked", ["model", "attack", "beside", "asked", "measured", "holds"], rows)


_SETTINGS = {"compiled": 1.4, "channels last": 1.5, "bf16": 2.5, "compiled, bf16": 2.5}
"""How many times as fast as the package AutoAttack is to be."""


def _is_peer(name: str) -> bool:
    return not name.startswith(OURS) and name != "counted floor"


def _points(ours: Row, theirs: Row) -> float:
    """Points of robust accuracy that we leave above the peer: negative is stronger."""
    return 100 * (ours["still correct"] - theirs["still correct"])


def _size(ours: Row, theirs: Row) -> float:
    """Ours over theirs, on the images that both broke."""
    return theirs["our size over theirs"]


def _speed(ours: Row, theirs: Row) -> float:
    return theirs["CPU seconds"] / ours["CPU seconds"]


def _slowness(ours: Row, theirs: Row) -> float:
    return ours["CPU seconds"] / theirs["CPU seconds"]


_CLAIMS: list[tuple[str, str, str, Callable[[Row, Row], float], Callable[[float], bool]]] = [
    ("PGD-40", "peers", "robust accuracy at most 0.3 points above", _points, lambda v: v <= 0.3),
    ("PGD-40 L2", "peers", "robust accuracy at most 0.3 points above", _points, lambda v: v <= 0.3),
    ("PGD-40", "counted floor", "time over the floor at most 1.05", _slowness, lambda v: v <= 1.05),
    ("PGD-40 L2", "counted floor", "time over the floor at most 1.05", _slowness, lambda v: v <= 1.05),
    ("AutoAttack standard", "AutoAttack package", "robust accuracy not above", _points, lambda v: -0.2 <= v <= 0),
    ("AutoAttack standard", "AutoAttack package", "times as fast, at least 1", _speed, lambda v: v >= 1),
    ("C&W L2", "peers", "success not below (points still correct)", _points, lambda v: v <= 0),
    ("C&W L2", "peers", "mean L2 at most 1.02 of theirs", _size, lambda v: v <= 1.02),
    ("C&W L2", "foolbox", "times as fast, at least 1.5", _speed, lambda v: v >= 1.5),
    ("C&W L2", "ART", "times as fast, at least 2", _speed, lambda v: v >= 2),
    ("DeepFool L2", "peers", "success not below (points still correct)", _points, lambda v: v <= 0),
    ("DeepFool L2", "peers", "mean L2 at most 1.02 of theirs", _size, lambda v: v <= 1.02),
    ("DeepFool L2", "foolbox", "times as fast, at least 3", _speed, lambda v: v >= 3),
    ("JSMA", "torchattacks", "success not below (points still correct)", _points, lambda v: v <= 0),
    ("JSMA", "torchattacks", "mean L0 at most 1.05 of theirs", _size, lambda v: v <= 1.05),
    ("FAB-T", "AutoAttack package", "median norm at most 1.03 of theirs", _size, lambda v: v <= 1.03),
]
