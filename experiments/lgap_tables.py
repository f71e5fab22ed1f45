"""The tables and the picture of the LGAP experiment."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_adv.files import replace_atomically
from lightning_adv.results.figures import png
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.strips import Strip, StripRow, image_strip

__all__ = ["Figures", "attacks_table", "blind_table", "caption_table", "guidance_table", "save_picture"]

Figures = Mapping[tuple[str, str, str, str], Sequence[float]]
"""(classifier, prompts or "undefended", attack or "none", threat model) to accuracies of the draws."""

INFORMED = ("bpda", "bpda_eot", "adaptive")
TUNED, CAPTION = "fine-tuned", "caption"


def blind_table(found: Figures) -> Table:
    """Tables 1 and 2: natural accuracy, and robust accuracy where the attacker knows the classifier alone."""
    columns = ["classifier, prompts", "natural", "robust"]
    rows: list[list[Cell]] = [
        [f"{model}, {kind}", _mean(found[model, kind, "none", "blind"]), _mean(found[model, kind, "pgd", "blind"])]
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
            _mean(alone[attack]) if attack in alone else None,
            _mean(draws),
            f"{100 * min(draws):.1f} to {100 * max(draws):.1f} %",
            cifar.get(attack),
            imagenet.get(attack),
        ]
        for attack, draws in measured.items()
    ]
    shares = ("undefended", "LGAP", "the paper: CIFAR-10", "the paper: ImageNet")
    note = (
        "Fine-tuned classifier, guidance by captions. The exact gradient is not in the paper; it is the strongest test."
    )
    return Table("Tables 3 and 4: attacks", columns, rows, percent=shares, note=note)


def guidance_table(found: Figures) -> Table:
    """What the words are worth: the same purifier under other prompts."""
    columns = ["prompts", "natural", "blind", *INFORMED, "least"]
    rows: list[list[Cell]] = []
    for kind in dict.fromkeys(key[1] for key in found if key[0] == TUNED and key[1] != "undefended"):
        kept = [found.get((TUNED, kind, "pgd", threat)) for threat in ("blind", *INFORMED)]
        shares = [None if draws is None else _mean(draws) for draws in kept]
        least = min(share for share in shares if share is not None)
        rows.append([kind, _mean(found[TUNED, kind, "none", "blind"]), *shares, least])
    note = (
        "PGD on the fine-tuned classifier. The true class is an oracle that no defence has: it names the answer, under "
        "attack too. The predicted class is what the attacked classifier itself says. No attack aims at the captioner: "
        "gradients take its words as given, though every image that is tried is described anew. An empty cell was not "
        "measured, so that only rows with the same cells compare by their least."
    )
    return Table(
        "Guidance by captions, by nothing and by class names", columns, rows, percent=tuple(columns[1:]), note=note
    )


def caption_table(clean: Sequence[str], attacked: Sequence[str], labels: Sequence[int]) -> Table:
    """What the captioner says of an image of each class, and how often it names the class."""
    first = [labels.index(label) for label in sorted(set(labels))]
    rows: list[list[Cell]] = [[str(labels[row]), clean[row], attacked[row]] for row in first]
    right = [sum(str(k) in said.split() for k, said in zip(labels, texts, strict=True)) for texts in (clean, attacked)]
    rows.append(["captions that name the class", *(f"{100 * count / len(labels):.1f} %" for count in right)])
    return Table("Captions", ["class", "clean image", "attacked blindly by PGD"], rows)


def save_picture(pictures: tuple[Mapping[str, Tensor], Tensor], model: nn.Module, path: Path) -> None:
    """Write the strip, with what the classifier says of every image."""
    rows, labels = pictures
    with torch.no_grad():
        drawn = [StripRow(name, images, model(images).argmax(dim=1)) for name, images in rows.items()]
    names = [str(k) for k in range(10)]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, png(image_strip(Strip("strip", "blind PGD, purified", labels, drawn), names), dpi=100))


def _mean(draws: Sequence[float]) -> float:
    return sum(draws) / len(draws)
