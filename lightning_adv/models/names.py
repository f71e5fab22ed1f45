"""What the field calls the weights of its networks, and what this project calls them.

Each published layout is a table: the name of a layer in the file and its name here, with ``*`` for a number that is the
same in both. Two layouts may share every name and compute different things; such tables lead to different names here.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.models.key_matching import COUNTERS, Match, UnknownNames, match_keys
from lightning_adv.models.naming import Naming
from lightning_adv.models.torchvision_names import TORCHVISION

__all__ = ["NAMINGS", "Reading", "read_names", "recognise"]


@dataclass(frozen=True)
class Reading:
    """The weights of a file under the names of a model.

    Args:
        match: which is which.
        naming: by what table; none if the names are the model's own.
        left_out: names in the file that stand for nothing in the network.
    """

    match: Match
    naming: Naming | None = None
    left_out: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """What to say where the weights do not fit."""
        return "" if self.naming is None else f"; {self.naming.hint}"


def _stages(theirs: Mapping[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    """Each part of the blocks of each stage."""
    return {f"{a}.*.{layer}": f"{b}.*.{ours}" for a, b in theirs.items() for layer, ours in parts.items()}


_SAME = {part: part for part in ("bn1", "conv1", "bn2", "conv2")}
_DM = {part: part for part in ("batchnorm_0", "batchnorm_1", "shortcut")}
_PREACT = {"conv1": "features.0", "linear": "fc"}
_PREACT_TELLING = ("conv1.weight", "layer1.0.bn1.weight", "layer4.1.conv2.weight", "linear.weight")
_LAYERS = {f"layer{stage}": f"features.{stage}" for stage in range(1, 5)}

NAMINGS = (
    Naming(
        "the WideResNets of TRADES and RobustBench",
        "wide_resnet28_10 or wide_resnet34_10",
        ("conv1.weight", "block1.layer.0.bn1.weight", "bn1.weight", "fc.weight"),
        {"conv1": "features.0", "bn1": "features.4", "fc": "fc"}
        | _stages({f"block{s}.layer": f"features.{s}" for s in range(1, 4)}, _SAME | {"convShortcut": "shortcut"}),
        unused=("sub_block1",),
    ),
    Naming(
        "the PreActResNet-18 of Rice et al.",
        "preact_resnet18",
        (*_PREACT_TELLING, "bn.weight"),
        _PREACT | {"bn": "features.5"} | _stages(_LAYERS, _SAME | {"shortcut.0": "shortcut"}),
    ),
    Naming(
        "the PreActResNet-18 of Wong et al., RobustBench or pytorch-cifar, without a last BatchNorm",
        "preact_resnet18 with backbone_options final_norm: false, and raw_shortcut: true but for pytorch-cifar",
        _PREACT_TELLING,
        _PREACT | _stages(_LAYERS, _SAME | {"shortcut.0": "raw_shortcut"}),
        lacking=("bn.weight", "bn1.weight"),
    ),
    Naming(
        "the PreActResNet-18 of pytorch-cifar, without a last BatchNorm",
        "preact_resnet18 with backbone_options final_norm: false, raw_shortcut: false",
        _PREACT_TELLING,
        _PREACT | _stages(_LAYERS, _SAME | {"shortcut.0": "shortcut"}),
        lacking=("bn.weight", "bn1.weight"),
    ),
    Naming(
        "the ResNet-18 of pytorch-cifar",
        "resnet18_cifar",
        ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer2.0.shortcut.1.weight", "linear.weight"),
        {"conv1": "features.0", "bn1": "features.1", "linear": "fc"}
        | _stages(
            {f"layer{s}": f"features.{s + 2}" for s in range(1, 5)},
            _SAME | {"shortcut.0": "shortcut.0", "shortcut.1": "shortcut.1"},
        ),
    ),
    Naming(
        "the WideResNets of Gowal et al.",
        "dm_wide_resnet_28_10 or dm_wide_resnet_70_16",
        ("init_conv.weight", "layer.0.block.0.batchnorm_0.weight", "batchnorm.weight", "logits.weight"),
        {"init_conv": "features.0", "batchnorm": "features.4", "logits": "fc"}
        | _stages(
            {f"layer.{s}.block": f"features.{s + 1}" for s in range(3)}, _DM | {"conv_0": "conv_0", "conv_1": "conv_1"}
        ),
    ),
    Naming(
        "the PreActResNet-18 of Rebuffi et al.",
        "dm_preact_resnet18",
        ("conv_2d.weight", "layer_0.0.batchnorm_0.weight", "batchnorm.weight", "logits.weight"),
        {"conv_2d": "features.0", "batchnorm": "features.5", "logits": "fc"}
        | _stages(
            {f"layer_{s}": f"features.{s + 1}" for s in range(4)}, _DM | {"conv_2d_1": "conv_0", "conv_2d_2": "conv_1"}
        ),
    ),
    *TORCHVISION,
)


def read_names(found: Mapping[str, Tensor], wanted: Iterable[str]) -> Reading:
    """The weights of a file under a model's names: as they are, or by the table under which more of them agree.

    Args:
        found: weights of a file.
        wanted: names of the model's weights.

    Raises:
        InputError: if no name agrees, or if two parts of the file agree equally well.
    """
    found = {key.replace("_orig_mod.", ""): weight for key, weight in found.items()}
    counters = tuple(key for key in found if key.rpartition(".")[2] in COUNTERS)
    found = {key: weight for key, weight in found.items() if key not in counters}
    wanted = list(wanted)
    readings: list[Reading] = []
    refusals: list[InputError] = []
    known = recognise(found)
    for naming in (None, *known):
        renamed, unused = (found, ()) if naming is None else _rename(found, naming)
        try:
            readings.append(Reading(match_keys(renamed, wanted), naming, (*counters, *unused)))
        except InputError as error:
            refusals.append(error)
    names = set(wanted)
    if not readings:
        refusal = refusals[-1]  # of a table, where there is one
        if known and isinstance(refusal, UnknownNames):
            raise InputError(f"{refusal} {known[0].hint}") from refusal
        raise refusal
    return max(readings, key=lambda reading: len(names & reading.match.weights.keys()))


def recognise(found: Iterable[str]) -> list[Naming]:
    """The published layouts that the names of a file may be of."""
    names = {key.replace("_orig_mod.", "") for key in found}
    return [naming for naming in NAMINGS if _prefixes(names, naming)]


def _prefixes(names: Collection[str], naming: Naming) -> list[str]:
    """What the names of the layout are preceded by in the file; several for a student and its teacher."""
    parts = {prefix for name in names for prefix in _before(name, naming.telling[0])}
    return [
        prefix
        for prefix in parts
        if all(prefix + name in names for name in naming.telling)
        and not any(prefix + name in names for name in naming.lacking)
    ]


def _rename(found: Mapping[str, Tensor], naming: Naming) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The file's weights with the table's names replaced, and the names of those left out."""
    prefixes = _prefixes(found.keys(), naming)
    renamed, unused = {}, []
    for key, weight in found.items():
        prefix = max((each for each in prefixes if key.startswith(each)), key=len, default=None)
        name = None if prefix is None else key[len(prefix) :]
        if name is not None and name.startswith(tuple(f"{layer}." for layer in naming.unused)):
            unused.append(key)
            continue
        ours = None if name is None else naming.translate(name)
        renamed[key if ours is None else prefix + ours] = weight
    return renamed, tuple(unused)


def _before(key: str, name: str) -> list[str]:
    """What precedes ``name`` in ``key``, if it ends in it at the beginning of a part."""
    start = key.removesuffix(name)
    return [start] if start != key and (not start or start.endswith(".")) else []
