"""The tables of the image transformations experiment."""

from collections.abc import Mapping, Sequence

from experiments.page import prose
from experiments.purified import mean
from lightning_adv.results.result import Cell, Table

__all__ = ["Figures", "claims_table", "main_table", "sweep_table"]

Figures = Mapping[tuple[str, str], Mapping[str, Sequence[float]]]
"""(purifier or "none", attack or "none") to threat model to accuracies of the draws; "blind" where there is none."""

THREATS = ("blind", "bpda", "bpda_eot", "adaptive", "black_box")


def main_table(name: str, count: int, informed: Sequence[int], found: Figures) -> Table:
    """Every purifier and attack, by what the attacker knows."""
    columns = ["purifier, attack", "undefended", *THREATS, "strongest"]
    rows: list[list[Cell]] = []
    for (purifier, attack), threats in found.items():
        if purifier == "none":
            continue
        before = found.get(("none", attack))
        cells = [mean(threats[each]) if each in threats else None for each in THREATS]
        undefended = None if before is None else mean(before["blind"])
        rows.append([f"{purifier}, {attack}", undefended, *cells, min(each for each in cells if each is not None)])
    known, costly = informed
    on = "" if known == count else f", the first {known} under attacks that know the purifier"
    if costly < known:
        on += f", the first {costly} under attacks that average over its draws or go through a VQ-VAE"
    note = prose(__file__, "accuracy by what the attacker knows", count=count, on=on)
    return Table(f"{name}: accuracy by what the attacker knows", columns, rows, percent=tuple(columns[1:]), note=note)


def claims_table(name: str, found: Figures) -> Table:
    """What the paper says, and what was measured, in the paper's blind setting and beyond it."""

    def clean(purifier: str) -> str:
        return f"{100 * mean(found[purifier, 'none']['blind']):.1f} %"

    def figure(purifier: str, attack: str) -> str:
        knowing = found.get((purifier, f"{attack}_at_0.3"), found[purifier, attack])
        return f"{attack} {100 * mean(found[purifier, attack]['blind']):.1f} % ({100 * _least(knowing):.1f} %)"

    def of(purifier: str, attacks: Sequence[str] = ("fgsm", "pgd", "cw")) -> str:
        return ", ".join(figure(purifier, attack) for attack in attacks)

    undefended = ", ".join(f"{each} {100 * mean(found['none', each]['blind']):.1f} %" for each in _attacks(found))
    others = [each for each in dict.fromkeys(p for p, _ in found) if each != "none"]
    alone = mean(found["none", "deepfool"]["blind"])
    gains = {each: mean(found[each, "deepfool"]["blind"]) - alone for each in others}
    best = max(gains, key=lambda each: gains[each])
    tv, jpeg = ("over 70 % for FGSM, PGD and C&W", "99 % for FGSM, PGD and C&W" if name == "MNIST" else "below TVM")
    rows: list[list[Cell]] = [
        ["undefended", "0 % under each", clean("none"), undefended],
        ["JPEG", jpeg, clean("jpeg"), of("jpeg")],
        ["TVM", tv, clean("tv"), of("tv")],
        ["K-means", "over 50 %" if name == "MNIST" else "between", clean("kmeans"), of("kmeans")],
        ["Gaussian", "among the lowest", clean("gaussian"), of("gaussian")],
        ["DeepFool", "gains below 10 %", None, f"largest gain {100 * gains[best]:.1f} % ({best})"],
    ]
    noisy = [each for each in others if each.startswith("vqvae")]
    rows += [[each, "noise in training helps on MNIST alone", clean(each), of(each)] for each in noisy]
    title = "the paper's claims"
    columns = ["defence", "the paper", "clean images", "attacked"]
    return Table(f"{name}: {title}", columns, rows, note=prose(__file__, title))


def sweep_table(
    title: str, attack: str, informed: Sequence[int], found: Mapping[str, Sequence[Sequence[float]]]
) -> Table:
    """One parameter: clean, blind and informed accuracy."""
    columns = ["value", "clean images", f"{attack}, blind", f"{attack}, informed"]
    rows: list[list[Cell]] = [[value, *map(mean, figures)] for value, figures in found.items()]
    known, costly = informed
    fewer = f", {costly} where it averages over draws or goes through a VQ-VAE" if costly < known else ""
    note = prose(__file__, "a parameter", known=known, fewer=fewer)
    return Table(title, columns, rows, percent=tuple(columns[1:]), note=note)


def _attacks(found: Figures) -> list[str]:
    return [attack for purifier, attack in found if purifier == "none" and attack != "none"]


def _least(threats: Mapping[str, Sequence[float]]) -> float:
    """Under the strongest attacker; who knows the purifier may also attack as if not knowing it."""
    return min(map(mean, threats.values()))
