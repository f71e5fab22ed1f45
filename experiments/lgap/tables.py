"""The tables of the LGAP experiment."""

from collections.abc import Mapping, Sequence

from experiments.page import prose
from experiments.purified import mean
from lightning_adv.results.result import Cell, Table

__all__ = ["Figures", "attacks_table", "blind_table", "caption_table", "guidance_table"]

Figures = Mapping[tuple[str, str, str, str], Sequence[float]]
"""(classifier, prompts or "undefended", attack or "none", threat model) to accuracies of the draws."""

INFORMED = ("bpda", "bpda_eot", "adaptive")
TUNED, CAPTION = "fine-tuned", "caption"


def blind_table(found: Figures) -> Table:
    """Tables 1 and 2: natural accuracy, and robust accuracy where the attacker knows the classifier alone."""
    columns = ["classifier, prompts", "natural", "robust"]
    rows: list[list[Cell]] = [
        [f"{model}, {kind}", mean(found[model, kind, "none", "blind"]), mean(found[model, kind, "pgd", "blind"])]
        for model, kind in dict.fromkeys(key[:2] for key in found)
    ]
    rows += [["the paper: CIFAR-10", 0.9003, 0.7168], ["the paper: CIFAR-100", 0.5871, 0.3982]]
    return Table("Tables 1 and 2: preprocessor-blind PGD", columns, rows, percent=("natural", "robust"))


def attacks_table(found: Figures) -> Table:
    """Tables 3 and 4: one row an attack, the captioned purifier with the fine-tuned classifier."""
    measured = {
        "natural": found[TUNED, CAPTION, "none", "blind"],
        "PGD-10, blind": found[TUNED, CAPTION, "pgd10", "blind"],
        "AutoAttack, blind": found[TUNED, CAPTION, "autoattack", "blind"],
        "BPDA": found[TUNED, CAPTION, "pgd", "bpda"],
        "BPDA + EOT": found[TUNED, CAPTION, "pgd", "bpda_eot"],
        "exact gradient + EOT": found[TUNED, CAPTION, "pgd", "adaptive"],
    }
    alone = {
        "natural": found[TUNED, "undefended", "none", "blind"],
        "PGD-10, blind": found[TUNED, "undefended", "pgd10", "blind"],
        "AutoAttack, blind": found[TUNED, "undefended", "autoattack", "blind"],
    }
    cifar = {"natural": 0.9030, "BPDA": 0.6263, "BPDA + EOT": 0.4496}
    imagenet = {"natural": 0.6909, "AutoAttack, blind": 0.5712, "BPDA": 0.4531, "PGD-10, blind": 0.5273}
    columns = ["attack", "undefended", "LGAP", "lowest and highest draw", "the paper: CIFAR-10", "the paper: ImageNet"]
    rows: list[list[Cell]] = [
        [
            attack,
            mean(alone[attack]) if attack in alone else None,
            mean(draws),
            f"{100 * min(draws):.1f} to {100 * max(draws):.1f} %",
            cifar.get(attack),
            imagenet.get(attack),
        ]
        for attack, draws in measured.items()
    ]
    shares = ("undefended", "LGAP", "the paper: CIFAR-10", "the paper: ImageNet")
    title = "Tables 3 and 4: attacks"
    return Table(title, columns, rows, percent=shares, note=prose(__file__, title))


def guidance_table(found: Figures) -> Table:
    """What the words are worth: the same purifier under other prompts."""
    columns = ["prompts", "natural", "blind", *INFORMED, "least"]
    rows: list[list[Cell]] = []
    for kind in dict.fromkeys(key[1] for key in found if key[0] == TUNED and key[1] != "undefended"):
        kept = [found.get((TUNED, kind, "pgd", threat)) for threat in ("blind", *INFORMED)]
        shares = [None if draws is None else mean(draws) for draws in kept]
        least = min(share for share in shares if share is not None)
        rows.append([kind, mean(found[TUNED, kind, "none", "blind"]), *shares, least])
    title = "Guidance by captions, by nothing and by class names"
    return Table(title, columns, rows, percent=tuple(columns[1:]), note=prose(__file__, title))


def caption_table(clean: Sequence[str], attacked: Sequence[str], labels: Sequence[int]) -> Table:
    """What the captioner says of an image of each class, and how often it names the class."""
    first = [labels.index(label) for label in sorted(set(labels))]
    rows: list[list[Cell]] = [[str(labels[row]), clean[row], attacked[row]] for row in first]
    right = [sum(str(k) in said.split() for k, said in zip(labels, texts, strict=True)) for texts in (clean, attacked)]
    rows.append(["captions that name the class", *(f"{100 * count / len(labels):.1f} %" for count in right)])
    return Table("Captions", ["class", "clean image", "attacked blindly by PGD"], rows)
