"""A trigger of its own for every image, drawn by networks (Input-Aware; Nguyen and Tran, 2020).

    x' = (1 - m(x)) x + m(x) p(x)        with m(x) = 1/2 + tanh(20 M(x) - 10) / 2   [N, 1, H, W],  p = G(x)

The objective ``InputAware`` trains M and G beside the classifier.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.backdoors.trigger import ImageShape, Trigger
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.files import replace_atomically

__all__ = ["Generators", "InputAwareTrigger"]


class Generators(nn.Module):
    """Two auto-encoders of convolutions: ``mask`` and ``pattern`` of images [N, C, H, W], both in [0, 1].

    Args:
        channels: C.
        width: channels of the first convolution; each halving but the last doubles them.
        halvings: of the sides of an image on the way to the middle.
        seed: of the first weights.

    Example:
        >>> Generators(3, width=4, halvings=2)(torch.rand(2, 3, 8, 8))[0].shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, channels: int, width: int = 32, halvings: int = 3, seed: int = 0) -> None:
        super().__init__()
        self.channels = channels
        with torch.random.fork_rng(devices=[]):
            self.mask_network = _AutoEncoder(channels, 1, width, halvings)
            self.pattern_network = _AutoEncoder(channels, channels, width, halvings)
        generator = torch.Generator().manual_seed(seed)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.kaiming_normal_(weight, generator=generator)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mask [N, 1, H, W] and pattern [N, C, H, W]."""
        return self.mask(x), self.pattern(x)

    def mask(self, x: Tensor) -> Tensor:
        """Near 0 or 1 almost everywhere."""
        return (20 * self.mask_network(x) - 10).tanh() / 2 + 0.5

    def pattern(self, x: Tensor) -> Tensor:
        """What the mask lets through."""
        return self.pattern_network(x)


class InputAwareTrigger(Trigger):
    """Mask and pattern that networks draw for each image (Nguyen and Tran, 2020).

    Without a file the networks are made at the first image, of its number of channels; the objective ``InputAware``
    trains those of its own trigger.

    Args:
        path: safetensors file, written by ``save``.
        width: channels of the networks' first convolution; the file's, where there is one.
        halvings: of the sides of an image; the file's, where there is one.
        seed: of the first weights.

    Raises:
        InputError: a number below 1; a file that is missing or of another kind; in a call, images of other channels.

    Example:
        >>> InputAwareTrigger(width=4)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, path: str | None = None, width: int = 32, halvings: int = 3, seed: int = 0) -> None:
        at_least_one(width=width, halvings=halvings)
        self.path, self.width, self.halvings, self.seed = path, width, halvings, seed
        self._generators: Generators | None = None
        if path is not None:
            self.load_state_dict(_read(path), path)

    def apply(self, x: Tensor) -> Tensor:
        """(1 - m(x)) x + m(x) p(x), whatever mode the networks are in."""
        generators = self.generators(x)
        with leaves_no_trace(generators):
            mask, pattern = generators(x.clone().float())
        return torch.lerp(x, pattern.to(x), mask.to(x).expand_as(x)).clamp(0, 1)

    def generators(self, x: Tensor) -> Generators:
        """The networks, on the device of the images [N, C, H, W].

        Raises:
            InputError: images of other channels.
        """
        if self._generators is None:
            self._generators = Generators(x.shape[1], self.width, self.halvings, self.seed)
        channels = self._generators.channels
        if x.shape[1] != channels:
            raise InputError(
                f"the trigger's networks draw on images of {channels} channels, and these have {x.shape[1]}"
            )
        return self._generators.to(x.device)

    def check(self, shape: ImageShape) -> None:
        """Refuse images of other channels than the networks', or with fewer pixels a side than they halve.

        Raises:
            InputError: with both.
        """
        if min(shape[1:]) < 2**self.halvings:
            raise InputError(f"images of {shape[1]} x {shape[2]} are too small to be halved {self.halvings} times")
        if self._generators is not None:
            self.generators(torch.zeros(1, *shape, device=next(self._generators.parameters()).device))

    def save(self, path: str | Path, shape: ImageShape) -> None:
        """Write the networks to a safetensors file, which ``InputAwareTrigger(path)`` reads."""
        self.check(shape)
        self.generators(torch.zeros(1, *shape))
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        replace_atomically(path, save(tensors, metadata={"trigger": repr(self)}))

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the networks; none before they are made."""
        return {} if self._generators is None else self._generators.state_dict()

    def load_state_dict(self, state: dict[str, Tensor], where: str = "the checkpoint") -> None:
        """Make the networks of what :meth:`state_dict` gave.

        Raises:
            InputError: tensors that are no such networks, or not finite.
        """
        firsts = [name for name in state if name.startswith("mask_network.down.") and name.endswith(".0.0.weight")]
        try:
            first = state["mask_network.down.0.0.0.weight"]
            self.width, self.halvings = len(first), len(firsts)
            made = Generators(first.shape[1], self.width, self.halvings)
            made.load_state_dict(state)
        except (KeyError, RuntimeError, IndexError, AttributeError) as error:
            raise InputError(f"{where} does not hold the networks of an input-aware trigger") from error
        if not all(bool(tensor.isfinite().all()) for tensor in made.state_dict().values()):
            raise InputError(f"{where}: the networks of the trigger hold weights that are not finite")
        self._generators = made


class _AutoEncoder(nn.Module):
    """Images [N, C, H, W] to [N, out, H, W] in [0, 1], of any size."""

    def __init__(self, channels: int, out: int, width: int, halvings: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(halvings)]
        before = [channels, *widths[:-1]]
        after = [*widths[:-1][::-1], out]
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(a, b), _convolution(b, b)) for a, b in zip(before, widths, strict=True)
        )
        self.middle = _convolution(widths[-1], widths[-1])
        self.up = nn.ModuleList(
            nn.Sequential(_convolution(a, a), _convolution(a, b, ends=level == halvings - 1))
            for level, (a, b) in enumerate(zip(widths[::-1], after, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        x, sizes = 2 * x - 1, []
        for block in self.down:
            x = block(x)
            sizes.append(x.shape[2:])
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for block, size in zip(self.up, reversed(sizes), strict=True):
            x = block(F.interpolate(x, size, mode="bilinear", align_corners=True))
        return x.tanh() / 2 + 0.5


def _convolution(channels: int, out: int, ends: bool = False) -> nn.Sequential:
    norm = nn.BatchNorm2d(out, momentum=0.05)
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), norm, *([] if ends else [nn.ReLU()]))


def _read(path: str) -> dict[str, Tensor]:
    file_path = Path(path).expanduser()
    if not file_path.is_file():
        raise InputError(f"no file {path}; the trigger of a trained InputAware objective writes one: save(path, shape)")
    try:
        with safe_open(file_path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}); save it again") from error
