"""LID and its neighbours: how many of how many clean images tell adversarial ones.

``python -m experiments.nmutant.neighbours --root data``: resumable; networks are trained for minutes, on all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from experiments.command import arguments, command, show
from experiments.kept import Kept
from experiments.networks import all_predicted, images_of, net_for, teach
from experiments.nmutant.cells import fitted, split
from experiments.nmutant.samples import SETTINGS, Samples, attacked
from experiments.nmutant.tables import kind_areas
from experiments.page import Page, prose
from lightning_adv.attacks import Attack, DeepFool
from lightning_adv.data import CropFlip, ImageDataModule, float_images
from lightning_adv.detectors import LocalIntrinsicDimensionality
from lightning_adv.detectors.features import activations, weight_layers
from lightning_adv.detectors.local_intrinsic_dimensionality import lid_of_distances
from lightning_adv.results.result import Cell, Table

__all__ = ["LIDS", "Victim", "lids_of_its_authors", "main"]

DOCUMENT = Path(__file__).with_suffix(".md")
COUNT = 500
"""Images of a kind."""
MINIBATCH, NEIGHBOURS = 100, 20
"""Of LID's authors."""
CLEAN = 2000
"""Training images among which neighbours are looked for."""

LIDS = {
    "20 of 100": LocalIntrinsicDimensionality(reference_samples=100),
    "20 of 1,000": LocalIntrinsicDimensionality(reference_samples=1000, minibatch=None),
    "20 of 2,000": LocalIntrinsicDimensionality(minibatch=None),
    "200 of 1,000": LocalIntrinsicDimensionality(k=200, reference_samples=1000, minibatch=None),
    "400 of 2,000": LocalIntrinsicDimensionality(k=400, minibatch=None),
    "20 of 100, mean of 20 minibatches": LocalIntrinsicDimensionality(),
}
AUTHORS = "20 of the sample's own minibatch"


@dataclass(frozen=True)
class Victim:
    """A network that minutes train.

    Args:
        backbone, options: of it.
        epochs, lr: of Adam, whose rate falls along a cosine.
        hard: in bfloat16, with crops and flips.
    """

    backbone: str
    options: dict[str, int | float]
    epochs: int
    lr: float = 1e-3
    hard: bool = False

    def trained(self, data: ImageDataModule, kept: Kept) -> nn.Module:
        """The network, trained if its weights were not kept."""

        def weights() -> dict[str, Tensor]:
            crop, random = CropFlip(), torch.Generator().manual_seed(0)
            augment = (lambda x: crop(x, random)) if self.hard else (lambda x: x)
            given = images_of(data, "train"), self.epochs, 128, CosineAnnealingLR, self.lr, self.hard, augment
            teach(model, *given)
            return model.state_dict()

        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = net_for(data, self.backbone, self.options)
            model.load_state_dict(kept.tensors("weights", weights, repr(self)))
        return model.eval()


VICTIMS = {
    "MNIST": Victim("lenet", {"drop_rate": 0.3}, epochs=3),
    "CIFAR10": Victim("preact_resnet18", {"width": 16}, epochs=5, lr=3e-3, hard=True),
}


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/nmutant_neighbours")
    parser.add_argument("--data", nargs="+", choices=list(VICTIMS), default=list(VICTIMS), help="only these")
    given = parser.parse_args()
    page = Page("experiments.nmutant.neighbours", "nmutant_neighbours", given.run)
    for name in given.data:
        page.add(_table(name, given.root, Kept(Path(given.run) / name)))
    page.write(prose(DOCUMENT), [], ", ".join(given.data))


def _table(name: str, root: str, kept: Kept) -> Table:
    data, victim = SETTINGS[name].data(root), VICTIMS[name]
    model, test = victim.trained(data, kept), data.datasets["test"]
    image, label, index = float_images(test.images), test.labels, test.index
    right = all_predicted(model, image) == label
    normal = right.nonzero().flatten()
    whole = SETTINGS[name].attacks()
    attacks = {"fgsm": whole["fgsm"], "cw": whole["cw"], "deepfool": DeepFool()}
    samples = {"normal": Samples(image[normal[:COUNT]], index[normal[:COUNT]])}
    for kind, attack in attacks.items():
        make = partial(_successes, model, attack, (image, label, index), normal)
        samples[kind] = Samples(**kept.tensors(kind, make, repr((victim, attack))))
    place = {number: i for i, number in enumerate(index.tolist())}

    def of_authors(each: Samples) -> Tensor:
        return lids_of_its_authors(model, each.image, image[[place[number] for number in each.index.tolist()]])

    ways = {told: partial(_measured, each, fitted(each, model, data, CLEAN), model) for told, each in LIDS.items()}
    ways[AUTHORS] = of_authors
    rows: list[list[Cell]] = []
    for told, way in ways.items():
        kinds = {}
        for kind, each in samples.items():
            lids = kept.figures(f"{told} {kind}", lambda way=way, each=each: way(each).tolist(), repr(LIDS.get(told)))
            kinds[kind] = torch.cat([each.index[:, None].double(), torch.tensor(lids).double()], dim=1)
        areas = kind_areas(kinds, tuple(attacks))
        rows.append([told, *areas, fmean(areas)])
        show(rows[-1], name)
    counts = ", ".join(f"{len(each.index)} {kind}" for kind, each in samples.items())
    note = prose(DOCUMENT, "AUROC", accuracy=f"{right.double().mean():.2%}", counts=counts)
    return Table(f"{name}: AUROC of LID", ["neighbours", *attacks, "mean"], rows, note=note)


def _successes(model: nn.Module, attack: Attack, data: Sequence[Tensor], normal: Tensor) -> dict[str, Tensor]:
    return vars(Samples(*attacked(model, attack, data, normal, COUNT)))


def _measured(
    detector: LocalIntrinsicDimensionality, fit: Callable[[], None], model: nn.Module, samples: Samples
) -> Tensor:
    fit()
    return torch.cat([detector.measures(model, x, index=index) for x, index in split(samples)])


def lids_of_its_authors(model: nn.Module, images: Tensor, originals: Tensor) -> Tensor:
    """LID in every layer [N, L] as their code has it.

    Neighbours are the clean images of the sample's own minibatch, its original among them; the nearest one, which most
    often is that, is left out.

    Args:
        model: images to logits.
        images: [N, C, H, W], of N originals or made from them.
        originals: [N, C, H, W].
    """
    found = []
    for image, original in zip(images.split(MINIBATCH), originals.split(MINIBATCH), strict=True):
        layers = (activations(model, each, weight_layers(model))[0] for each in (image, original))
        distances = [torch.cdist(own, clean).sort(dim=1).values for own, clean in zip(*layers, strict=True)]
        found.append(torch.stack([lid_of_distances(each[:, 1 : NEIGHBOURS + 1]) for each in distances], dim=1))
    return torch.cat(found)


if __name__ == "__main__":
    command(main)
