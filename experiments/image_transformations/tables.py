"""The tables of the image transformations experiment."""

from collections.abc import Mapping, Sequence

from torch import nn

from experiments.image_transformations.settings import PAPER, Setting
from experiments.page import prose
from experiments.purified import mean
from lightning_adv.purifiers import VQVAE
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval, wilson_interval

__all__ = ["Figures", "claims_table", "fineness_table", "main_table", "mistakes_table", "networks_table", "sweep_table"]

Figures = Mapping[tuple[str, str], Mapping[str, Sequence[float]]]
"""(purifier or "none", attack or "none") to threat model to accuracies of the draws; "blind" where there is none."""

_BOUNDED = ("fgsm", "pgd")

THREATS = ("blind", "bpda", "bpda_eot", "adaptive", "black_box")


def main_table(name: str, count: int, informed: Sequence[int], found: Figures) -> Table:
    """Every purifier and attack, by what the attacker knows."""
    threats = [each for each in THREATS if any(each in row for row in found.values())]
    columns = ["purifier, attack", "undefended", *threats, "strongest"]
    rows: list[list[Cell]] = []
    for (purifier, attack), row in found.items():
        if purifier == "none":
            continue
        before = found.get(("none", attack))
        cells = [mean(row[each]) if each in row else None for each in threats]
        undefended = None if before is None else mean(before["blind"])
        rows.append([f"{purifier}, {attack}", undefended, *cells, min(each for each in cells if each is not None)])
    known, costly = informed
    on = "" if known == count else f", the first {known} under attacks that know the purifier"
    if costly < known:
        on += f", the first {costly} under attacks that average over its draws or go through a VQ-VAE"
    missing = [each for each in THREATS if each not in threats]
    lacks = f" Not measured: {', '.join(missing)}; the strongest of all may be stronger." if missing else ""
    note = prose(__file__, "accuracy by what the attacker knows", count=count, on=on) + lacks
    return Table(f"{name}: accuracy by what the attacker knows", columns, rows, percent=tuple(columns[1:]), note=note)


def claims_table(name: str, count: int, found: Figures) -> Table:
    """What the paper says, and what was measured: with searched budgets as in the paper, and beyond them."""

    def clean(purifier: str) -> str:
        return _percent(mean(found[purifier, "none"]["blind"]))

    def searched(purifier: str) -> str:
        shares = {each: mean(found[purifier, each]["blind"]) for each in ("fgsm", "pgd", "cw")}
        ends = {each: percent_interval(wilson_interval(round(share * count), count)) for each, share in shares.items()}
        return ", ".join(f"{each} {_percent(share)} ({ends[each]})" for each, share in shares.items())

    def fixed(purifier: str) -> str:
        return ", ".join(f"{each} {_percent(mean(found[purifier, f'{each}_at_0.3']['blind']))}" for each in _BOUNDED)

    def known(purifier: str) -> str | None:
        if set(found[purifier, "cw"]) == {"blind"}:
            return None
        rows = {each: found[purifier, f"{each}_at_0.3"] for each in _BOUNDED} | {"cw": found[purifier, "cw"]}
        return ", ".join(f"{each} {_percent(min(map(mean, row.values())))}" for each, row in rows.items())

    def row(purifier: str, claim: str, label: str | None = None) -> list[Cell]:
        return [label or purifier, claim, clean(purifier), searched(purifier), fixed(purifier), known(purifier)]

    undefended = ", ".join(f"{each} {_percent(mean(found['none', each]['blind']))}" for each in _attacks(found))
    others = [each for each in dict.fromkeys(p for p, _ in found) if each != "none"]
    alone = mean(found["none", "deepfool"]["blind"])
    gains = {each: mean(found[each, "deepfool"]["blind"]) - alone for each in others}
    best = max(gains, key=lambda each: gains[each])
    tv, jpeg = ("over 70 % for FGSM, PGD and C&W", "99 % for FGSM, PGD and C&W" if name == "MNIST" else "below TVM")
    rows: list[list[Cell]] = [
        ["undefended", "0 % under each", clean("none"), undefended, None, None],
        row("jpeg", jpeg, "JPEG"),
        row("tv", tv, "TVM"),
        row("kmeans", "over 50 %" if name == "MNIST" else "between", "K-means"),
        row("gaussian", "among the lowest", "Gaussian"),
        ["DeepFool", "gains below 10 %", None, f"largest gain {_percent(gains[best])} ({best})", None, None],
        *[row(each, "noise in training helps on MNIST alone") for each in others if each.startswith("vqvae")],
    ]
    title = "the paper's claims"
    columns = ["defence", "the paper", "clean images", "searched budgets, blind", "budget .3, blind", "known"]
    return Table(f"{name}: {title}", columns, rows, note=prose(__file__, title, count=count))


def networks_table(name: str, setting: Setting, model: nn.Module, codes: Mapping[str, VQVAE], found: Figures) -> Table:
    """What was trained, for how long, and how right it leaves clean images."""
    paper = PAPER[name]

    def row(label: str, network: str, of: nn.Module, trained: str, theirs: str, key: str) -> list[Cell]:
        count = sum(each.numel() for each in of.parameters())
        return [label, network, count, trained, theirs, mean(found[key, "none"]["blind"])]

    of_paper = "2 conv + 2 FC" if name == "MNIST" else "DenseNet"
    theirs = f"{of_paper}, {paper.trained('classifier')}, {'99' if name == 'MNIST' else '85'} %"
    rows = [row("classifier", setting.network, model, setting.trained("classifier"), theirs, "none")]
    for label, each in codes.items():
        config = each.network.config
        widths = ", ".join(map(str, config.block_out_channels))
        network = f"channels {widths}; {config.num_vq_embeddings} codes of {config.latent_channels}"
        theirs = f"256 hidden units, 512 codes, {paper.trained('vqvae')}"
        rows.append(row(label, network, each.network, setting.trained("vqvae"), theirs, label))
    title = "networks"
    columns = ["what", "network", "parameters", "trained", "the paper's", "clean images right"]
    return Table(f"{name}: {title}", columns, rows, percent=(columns[-1],), note=prose(__file__, title))


def fineness_table(name: str, found: Mapping[int, Mapping[str, Sequence[float]]]) -> Table:
    """Blind accuracy under fgsm by how many budgets it tries; a purifier a column."""
    labels = list(next(iter(found.values())))
    rows: list[list[Cell]] = [[budgets, *map(mean, row.values())] for budgets, row in found.items()]
    title = "how fine the search of fgsm is"
    return Table(f"{name}: {title}", ["budgets", *labels], rows, percent=tuple(labels), note=prose(__file__, title))


def mistakes_table(name: str, confused: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str]) -> Table:
    """How mistakes spread over the pairs of classes, from counts of label by prediction."""
    rows: list[list[Cell]] = []
    for label, counts in confused.items():
        pairs = {
            f"{classes[i]} as {classes[k]}": n
            for i, row in enumerate(counts)
            for k, n in enumerate(row)
            if n and i != k
        }
        wrong, images = sum(pairs.values()), sum(map(sum, counts))
        most = max(pairs, key=lambda pair: pairs[pair], default=None)
        share = pairs[most] / wrong if most else None
        rows.append([label, images, wrong, len(pairs), most, share])
    columns = ["purifier, attack", "images", "wrong", "pairs of classes", "most often", "its share of what is wrong"]
    title = "mistakes by pair of classes"
    return Table(f"{name}: {title}", columns, rows, percent=(columns[-1],), note=prose(__file__, title))


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


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
