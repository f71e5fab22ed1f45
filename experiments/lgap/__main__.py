"""Language Guided Adversarial Purification (Singh and Subramanyam, 2024): Tables 1, 3 and 4, on MNIST.

``python -m experiments.lgap --root data`` trains classifier, captioner and latent diffusion model by ``train.py``,
fine-tunes the classifier on purified images, and attacks. Real checkpoints (a BLIP, a Stable Diffusion) are a folder or
hub id in ``--captioner`` and ``--diffusion``. Resumable: every network and every figure is kept under ``--run``.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from experiments.command import arguments, command
from experiments.lgap.by_class import ByClass, Purifiers
from experiments.lgap.networks import Networks
from experiments.lgap.tables import attacks_table, blind_table, caption_table, guidance_table
from experiments.page import Page, prose
from experiments.purified import DRAWS, strip
from lightning_adv.attacks import PGD, Attack, AutoAttack
from lightning_adv.data import MNIST, float_images
from lightning_adv.purifiers import Captions, ThreatModel

__all__ = ["main"]

INFORMED = (ThreatModel.BPDA, ThreatModel.BPDA_EOT, ThreatModel.ADAPTIVE)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Args:
        images: test images, as many of each class.
        steps: of PGD and BPDA.
        draws: that EOT averages over.
        tuned_on: purified training images.
    """

    images: int
    steps: int
    draws: int
    tuned_on: int


def main() -> None:
    """Train and measure what is missing, write the page."""
    given = _arguments().parse_args()
    page, run = Page("experiments.lgap", f"lgap{'_quick' * given.quick}", given.run), Path(given.run)
    size = Size(given.images or 100, given.steps or 40, given.draws or 8, 20_000)
    if given.quick:
        size = Size(given.images or 30, given.steps or 10, given.draws or 2, 2_000)
    networks = Networks(run, given)
    models = {"as trained": networks.classifier(), "fine-tuned": networks.fine_tuned(size.tuned_on)}
    data = _test_images(given.root, size.images)
    attacks = {
        "pgd": PGD(given.eps, steps=size.steps),
        "pgd10": PGD(given.eps, steps=10),
        "autoattack": AutoAttack(given.eps),
    }
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for name, model in models.items():
        folder = run / f"{name} {size.images} {size.steps} {size.draws} {size.tuned_on} {given.eps:g}".replace(" ", "_")
        cells = ByClass(folder, model, data, size.draws)
        kinds = {kind: networks.purifiers(prompts) for kind, prompts in networks.kinds(model).items()}
        for attack, how in {"none": None, **attacks}.items():
            found[name, "undefended", attack, "blind"] = cells.undefended(attack, how)
            for kind, purifiers in kinds.items():
                found[name, kind, attack, "blind"] = cells.behind(kind, purifiers, attack, how, ThreatModel.BLIND)
        for kind, purifiers in kinds.items() if name == "fine-tuned" else ():
            for threat in INFORMED:
                if threat is ThreatModel.ADAPTIVE and kind != "caption" and not given.quick:
                    continue  # half an hour each on two cores
                found[name, kind, "pgd", threat.value] = cells.behind(kind, purifiers, "pgd", attacks["pgd"], threat)
    said = _said(networks.captions(), cells, attacks["pgd"])
    page.picture(strip(*_seen(cells, kinds, attacks["pgd"]), model, "blind PGD, purified"), dpi=100)
    tables = [blind_table(found), attacks_table(found), guidance_table(found), caption_table(*said)]
    facts = {**vars(given), **vars(size)}
    page.write(prose(__file__, judged=DRAWS, stem=page.stem, **facts), tables, "MNIST")


def _arguments() -> argparse.ArgumentParser:
    parser = arguments(__doc__, run="runs/lgap", quick="30 images, 10 steps, 2 draws, 2,000 to fine-tune on")
    parser.add_argument("--images", type=int, help="test images; default 100")
    parser.add_argument("--steps", type=int, help="of PGD; default 40")
    parser.add_argument("--draws", type=int, help="that EOT averages over; default 8")
    parser.add_argument("--eps", type=float, default=0.2)
    parser.add_argument("--strength", type=float, default=0.35)
    parser.add_argument("--evaluations", type=int, default=4, help="of the network a purification")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--classifier", type=Path, help="checkpoint; trained if not given")
    parser.add_argument("--diffusion", help="folder or hub id of a Stable Diffusion; trained if not given")
    parser.add_argument("--captioner", help="folder or hub id of a BLIP; trained if not given")
    return parser


def _test_images(root: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As many images of each class, their labels and numbers; the same for every seed."""
    images = MNIST(root=root)
    images.setup()
    test = images.datasets["test"]
    chosen = torch.cat([(test.labels == k).nonzero()[: count // 10, 0] for k in range(10)])
    batch = test[chosen]
    return float_images(batch.image), batch.label, batch.index


def _said(captions: Captions, cells: ByClass, attack: Attack) -> tuple[list[str], list[str], list[int]]:
    """What the captioner says of clean and of attacked images, and their labels."""
    clean = [text for x, _, _ in cells.data for text in captions(x)]
    attacked = [text for x in cells.blind("pgd", attack) for text in captions(x)]
    return clean, attacked, torch.cat([y for _, y, _ in cells.data]).tolist()


def _seen(cells: ByClass, kinds: dict[str, Purifiers], attack: Attack) -> tuple[dict[str, Tensor], Tensor]:
    """The first image of each class: clean, attacked blindly, purified by each kind of prompt; and labels."""
    x, y, index = (torch.cat([part[place][:1] for part in cells.data]) for place in range(3))
    attacked = torch.cat([images[:1] for images in cells.blind("pgd", attack)])
    rows = {"clean": x, "attacked": attacked}
    for kind, purifiers in kinds.items():
        purified = [purifier(attacked[k : k + 1], index[k : k + 1]) for k, purifier in enumerate(purifiers)]
        rows[f"purified:\n{kind}"] = torch.cat(purified)
    return rows, y


if __name__ == "__main__":
    command(main)
