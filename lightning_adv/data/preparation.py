"""How a picture becomes what a network sees: its size, interpolation and crop, and what it is normalised with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_warn

from lightning_adv.errors import InputError

__all__ = ["Preparation", "prepared_for"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True)
class Preparation:
    """Resizing and cropping of pictures, and their mean and standard deviation.

    Args:
        image_size: height and width of what the model sees, in pixels.
        interpolation: of the resizing.
        crop_pct: share of the resized picture that the crop keeps.
        crop_mode: "center" resizes the shorter side, "squash" both, "border" the longer one.
        mean: of each channel in [0, 1].
        std: of each channel.

    Example:
        >>> str(Preparation(crop_pct=0.95))
        '224 x 224 pixels, bilinear, center crop of 0.95'
    """

    image_size: tuple[int, int] = (224, 224)
    interpolation: str = "bilinear"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or not all(isinstance(side, int) and side > 0 for side in self.image_size):
            raise InputError(f"image_size must be a height and a width in pixels, got {self.image_size}")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}")
        if self.crop_mode not in CROP_MODES:
            raise InputError(f"crop_mode must be one of {', '.join(CROP_MODES)}, got {self.crop_mode!r}")
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"crop_pct must lie in (0, 1], got {self.crop_pct}")
        if not len(self.mean) == len(self.std) == 3 or min(self.std) <= 0:
            raise InputError(f"mean and std must be 3 numbers each, std above 0, got {self.mean} and {self.std}")

    def __str__(self) -> str:
        height, width = self.image_size
        crop = f"{self.crop_mode} crop of {self.crop_pct:g}"
        return f"{height} x {width} pixels, {self.interpolation}, {crop}"


def prepared_for(network: str | None, given: Mapping[str, object]) -> Preparation:
    """What is given, for the rest what a network was trained with, for the rest the defaults; say where two disagree.

    Args:
        network: name of a network of timm, or a folder with its ``config.json``; None for none.
        given: fields of ``Preparation``; None where not.

    Raises:
        InputError: a network that does not tell, or values that make no sense.

    Example:
        >>> prepared_for("tf_efficientnet_lite0", {"crop_pct": None}).mean
        (0.5, 0.5, 0.5)
    """
    own = Preparation() if network is None else _of_network(network)
    wanted = {name: tuple(each) if isinstance(each, list) else each for name, each in given.items() if each is not None}
    differing = [
        f"{name} {value} for {asdict(own)[name]}" for name, value in wanted.items() if value != asdict(own)[name]
    ]
    if network is not None and differing:
        rank_zero_warn(f"the data differ from what {network} was trained with, as you say: {', '.join(differing)}")
    return replace(own, **wanted)


def _of_network(network: str) -> Preparation:
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    if Path(network).expanduser().is_dir():
        told = _of_folder(Path(network).expanduser())
    else:
        known = get_pretrained_cfg(network)
        told = known.to_dict() if known is not None else {}
    if "input_size" not in told:
        raise InputError(
            f"match: {network} does not tell how its images were prepared; give image_size, interpolation, crop_pct, "
            "mean and std in place of match"
        )
    try:
        config = resolve_data_config(pretrained_cfg=told)
        size, mean, std = (tuple(config[name]) for name in ("input_size", "mean", "std"))
        return Preparation(size[1:], config["interpolation"], config["crop_pct"], config["crop_mode"], mean, std)
    except (TypeError, ValueError) as error:
        raise InputError(f"match: {network} tells what makes no sense of its images: {error}") from error


def _of_folder(folder: Path) -> dict[str, object]:
    from lightning_adv.models.folders import read_settings

    settings = read_settings(folder / "config.json")
    of_weights = settings.get("pretrained_cfg")
    return of_weights if isinstance(of_weights, dict) else settings
