"""Batched purifiers beside the one-image loops of scikit-image, scikit-learn and Pillow, in one run on one thread.

``python -m benchmarks.purifiers --root data``: writes ``docs/results/purifiers.md``. Needs scikit-image.
"""

import io
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image
from sklearn.cluster import KMeans
from torch import Tensor

from benchmarks.bench import bench
from experiments.command import arguments, command, show
from experiments.cost import quickest
from experiments.page import prose
from lightning_adv.data import CIFAR10, MNIST, float_images
from lightning_adv.purifiers import JPEG, KMeansQuantization, TotalVariation
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

WEIGHT = 0.03
ROUGH_STEPS = 8
"""Reach the objective at which scikit-image stops by default."""


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__)
    parser.add_argument("--samples", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Number of distinct clusters")
    page = bench("purifiers")
    rows: list[list[Cell]] = []
    for data, colours in ((MNIST, 16), (CIFAR10, 50)):
        images = data(root=given.root)
        images.setup()
        x = float_images(images.datasets["test"].images[: given.samples])
        rows += [_row(data.__name__, *each) for each in _pairs(x, colours)]
        for row in rows[-4:]:
            show(row)
    columns = ["data", "purifier", "peer", "s, batched", "s, peer's loop", "times as fast", "ours", "peer", "measure"]
    text = prose(__file__, samples=given.samples, weight=WEIGHT)
    page.write(text, [Table("Ratios", columns, rows)], "MNIST, CIFAR10")


Pair = tuple[str, str, Callable[[], Tensor], Callable[[], Tensor], Callable[[Tensor], float], str]


def _pairs(x: Tensor, colours: int) -> list[Pair]:
    def error(purified: Tensor) -> float:
        return float((purified - x).double().square().sum())

    def energy(purified: Tensor) -> float:
        return _energy(purified.double(), x.double())

    def bits(purified: Tensor) -> float:
        return float((purified * 255).round().sum())

    smooth, rough = (TotalVariation(dropout=0, weight=WEIGHT, steps=steps) for steps in (30, ROUGH_STEPS))
    name, unit = f"TotalVariation, {ROUGH_STEPS} steps", "objective, lower is better"
    sse, grey = "squared error, lower is better", "sum of grey levels, equal is right"
    skimage, sklearn, pillow = (partial(_loop, each, x) for each in (_skimage, _sklearn, _pillow))
    means, many = KMeansQuantization(colours), f"KMeansQuantization({colours})"
    return [
        (name, "scikit-image, its default stop", partial(rough, x), partial(skimage, 1e-3), energy, unit),
        ("TotalVariation", "scikit-image, eps 1e-5", partial(smooth, x), partial(skimage, 1e-5), energy, unit),
        (many, "scikit-learn", partial(means, x), partial(sklearn, colours), error, sse),
        ("JPEG(90)", "Pillow", partial(JPEG(90), x), partial(pillow, 90), bits, grey),
    ]


def _loop(purify: Callable[[Tensor, float], Tensor], x: Tensor, setting: float) -> Tensor:
    """One image after the other."""
    return torch.stack([purify(each, setting) for each in x])


def _row(
    data: str,
    name: str,
    peer: str,
    ours: Callable[[], Tensor],
    theirs: Callable[[], Tensor],
    measure: Callable[[Tensor], float],
    unit: str,
) -> list[Cell]:
    (purified, seconds), (peers, their_seconds) = _timed(ours), _timed(theirs)
    ratio = their_seconds / seconds
    return [data, name, peer, seconds, their_seconds, ratio, measure(purified), measure(peers), unit]


def _timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Result and the shortest of three runs, in seconds."""
    results: list[Tensor] = []
    took = quickest(lambda: results.append(work()), clock=time.perf_counter)
    return results[-1], took


def _energy(u: Tensor, x: Tensor) -> float:
    g_x, g_y = torch.zeros_like(u), torch.zeros_like(u)
    g_x[..., :-1], g_y[..., :-1, :] = u.diff(dim=3), u.diff(dim=2)
    return float((g_x.square() + g_y.square()).sqrt().sum() + (u - x).square().sum() / (2 * WEIGHT))


def _skimage(image: Tensor, eps: float) -> Tensor:
    from skimage.restoration import denoise_tv_bregman

    # its objective is TV + weight / 2 |u - x|^2; each channel by itself, as it does too
    weight = 1 / WEIGHT
    smooth = [denoise_tv_bregman(each.double().numpy(), weight=weight, eps=eps, isotropic=True) for each in image]
    return torch.from_numpy(np.stack(smooth)).float()


def _sklearn(image: Tensor, colours: int) -> Tensor:
    pixels = image.flatten(1).T.numpy()
    fitted = KMeans(colours, n_init=1, random_state=0).fit(pixels)
    return torch.from_numpy(fitted.cluster_centers_[fitted.labels_]).T.reshape(image.shape)


def _pillow(image: Tensor, quality: int) -> Tensor:
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if len(image) == 1 else pixels).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file)).reshape(pixels.shape)
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    command(main)
