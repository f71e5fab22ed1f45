"""Classifiers as users bring them, all of them one small net underneath, and the images that they are asked about."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, CLASSES, COUNT = 8, 4, 8


def images(count: int = COUNT, seed: int = 0) -> Tensor:
    """[N, 1, 8, 8] in values that float16 holds exactly; the first pixel is white in every third."""
    x = torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    x[:, 0, 0, 0] = (torch.arange(count) % 3 == 0).float()
    return x.half().float()


def net() -> nn.Sequential:
    """A convolution, dropout and two linear layers in eval mode; weights that float16 holds exactly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
            nn.Linear(4 * SIDE * SIDE, 12), nn.ReLU(), nn.Linear(12, CLASSES),
        )  # fmt: skip
        spread, centre = torch.std_mean(model.eval()((images(64, seed=9) - 0.5) / 0.25).detach(), dim=0)
        model[-1].weight.data *= 2 / spread[:, None]  # so that every class is said
        model[-1].bias.data = (model[-1].bias.data - centre) * 2 / spread
    return model.half().float().eval()


class Wrapped(nn.Module):
    """The net with something of its own around it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - 0.5) / 0.25)


def sure() -> Wrapped:
    """One whose gradients of the loss are a millionth of what float16 can hold."""
    model = Wrapped()
    model.net[-1].weight.data.mul_(8)
    model.net[-1].bias.data.mul_(8)
    return model


class InPlace(Wrapped):
    """Normalises the tensor that it is given: the same answers as ``Wrapped``, if it is given one of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sub_(0.5).div_(0.25))


class SometimesNaN(Wrapped):
    """Says NaN of every image whose first pixel is bright."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(breaks(x)[:, None], torch.nan, super().forward(x))


class OneLogit(Wrapped):
    """A binary classifier for BCEWithLogitsLoss."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :1]


class DictOutput(Wrapped):
    """Answers as some libraries do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(x)}


class Probabilities(Wrapped):
    """Ends in a softmax."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


class Randomised(Wrapped):
    """Adds noise to its images in eval mode, too."""

    size = 0.02

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.size * torch.randn_like(x))


class Noisy(Randomised):
    """Adds so much that luck decides about many images."""

    size = 0.2


class Dropping(Wrapped):
    """Dropout that stays on in eval mode, as for Monte Carlo estimates."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.1, training=True))


REFUSED = {OneLogit: "one logit an image", DictOutput: "got a dict of logits; return the logits alone"}
"""Models that give no logits, and what they are told."""


def breaks(x: Tensor) -> Tensor:
    """[N] images that ``SometimesNaN`` breaks on."""
    return x[:, 0, 0, 0] > 0.5


def mean_verdict(model: nn.Module, x: Tensor, draws: int = 300) -> tuple[Tensor, Tensor]:
    """[N] classes that a randomised model gives images on average, and whether they are clear ones."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mean = torch.stack([model(x).softmax(dim=1) for _ in range(draws)]).mean(dim=0)
    first, second = mean.topk(2, dim=1).values.unbind(dim=1)
    return mean.argmax(dim=1), first - second > 0.4


def labels(x: Tensor) -> Tensor:
    """[N] what the model says of images, so that it is right about all of them."""
    with torch.no_grad():
        return Wrapped()(x).argmax(dim=1)


def half(model: nn.Module, dtype: torch.dtype = torch.float16) -> nn.Module:
    """A copy whose weights are of half precision, as ``precision=16-true`` makes them."""
    return copy.deepcopy(model).to(dtype)


def close_to(found: Tensor, expected: Tensor, tolerance: float = 0.02) -> bool:
    """Whether no entry is off by more than a share of the largest one."""
    return bool(((found - expected).abs() <= tolerance * expected.abs().amax()).all())
