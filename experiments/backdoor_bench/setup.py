"""What the bench sets beside each other: data sets and their budgets, attacks, and what is set against them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from experiments.networks import images_of
from lightning_adv.attacks import PGD
from lightning_adv.backdoors import (
    BPP,
    SIG,
    Blend,
    LabelConsistent,
    LowFrequency,
    Narcissus,
    Patch,
    Pieces,
    Several,
    StaticPerturbation,
    WaNet,
    optimise_narcissus,
    optimise_trojan,
    universal_perturbation,
)
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule
from lightning_adv.detectors import IBDPSC, STRIP, Detector, ScaleUp
from lightning_adv.inspectors import BTIDBF, MMBD, DeepInspect, Inspector, NeuralCleanse
from lightning_adv.mitigations import ANP, CLP, FST, FTSAM, IBAU, NAD, FinePruning, FineTuning, Mitigation
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import InputAware
from lightning_adv.scans import ActivationClustering, Beatrix, SCAn, Scan, SpectralSignatures, StripScan

__all__ = [
    "ATTACKS",
    "DETECTORS",
    "LONG",
    "LONGER",
    "MITIGATIONS",
    "NONE",
    "QUICK",
    "SCANS",
    "SETTINGS",
    "Attack",
    "Attacker",
    "Setting",
]

NONE = "none"
"""The row without an attack: what each method says of a clean model."""


@dataclass(frozen=True)
class Attacker:
    """What an attacker has.

    Args:
        setting: what is to be attacked.
        data: that are to be poisoned.
        network: makes a network of the attacker's own, which has learnt these data without poison.
    """

    setting: "Setting"
    data: ImageDataModule
    network: Callable[[], nn.Module]


@dataclass(frozen=True)
class Attack:
    """A way to poison.

    Args:
        poisoning: makes the arguments of ``PoisonedDataModule`` beside data, target and seed; None poisons nothing.
        published: clean accuracy and attack success on CIFAR-10 that its authors, or a bench of peers, state.
        form: in words, where there was another; figures of that one do not mix in.
        training: of an attacker who trains: the objective that teaches the backdoor and has its trigger.
    """

    poisoning: Callable[[Attacker], dict[str, object]] | None
    published: str = ""
    form: str = ""
    training: Callable[["Setting"], InputAware] | None = None


@dataclass(frozen=True)
class Setting:
    """A data set, its network, and what two cores allow.

    Args:
        images: the data.
        arguments: of it.
        backbone, options: network.
        epochs, batch_size, lr: of training with Adam, whose rate falls to 0 along a cosine.
        target: class that triggers lead to.
        defended: clean images that a defender owns.
        judged: test images, with and without trigger, that a detector tells apart.
        inspectors: by name, made with a seed.
        zoo: a robust network of the package, which label-consistent poisoning attacks.
        reach: eps of that attack.
        levels: grey levels that BPP leaves; digits have hardly more than the paper's 8.
        few: share of poisoned images, and of cover images, of the adaptive attacks, which poison few.
        bf16: train in bfloat16 where the processor computes in it, channels last.
        augmented: crop and flip training images.
    """

    images: type[ImageDataModule]
    backbone: str
    epochs: int
    target: int
    defended: int
    judged: int
    inspectors: Mapping[str, Callable[[int], Inspector]]
    zoo: str
    reach: str
    levels: int = 8
    few: float = 0.003
    arguments: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, int] = field(default_factory=dict)
    batch_size: int = 128
    lr: float = 1e-3
    bf16: bool = False
    augmented: bool = False

    def robust(self) -> nn.Module:
        """The network of the zoo."""
        data = self.images
        known = {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}
        return ClassifierModule(weights=self.zoo, **known).eval()

    @property
    def in_words(self) -> str:
        """What figures depend on beside the code; those of another setting do not mix in."""
        said = {name: each for name, each in vars(self).items() if name != "inspectors"}
        said["images"] = self.images.__name__
        return ", ".join(f"{name} {each}" for name, each in said.items())


SETTINGS = {
    "MNIST": Setting(
        MNIST,
        "mnist_cnn",
        epochs=5,
        target=0,
        defended=500,
        judged=500,
        inspectors={
            "Neural Cleanse": lambda seed: NeuralCleanse(steps=75, images_per_step=64, seed=seed),
            "DeepInspect": lambda seed: DeepInspect(steps=200, images_per_step=64, seed=seed),
            "MM-BD": lambda seed: MMBD(steps=150, seed=seed),
            "BTI-DBF": lambda seed: BTIDBF(seed=seed),
        },
        zoo="zoo/mnist_pgd",
        reach="0.3",
        levels=2,
        few=0.01,
        arguments={"max_train_samples": 20_000},
        options={"batch_norm": True},
    ),
    "CIFAR10": Setting(
        CIFAR10,
        "preact_resnet18",
        epochs=6,
        target=0,
        defended=500,
        judged=300,
        inspectors={
            "Neural Cleanse": lambda seed: NeuralCleanse(steps=60, images_per_step=64, seed=seed),
            "DeepInspect": lambda seed: DeepInspect(steps=100, images_per_step=32, bf16=True, seed=seed),
            "MM-BD": lambda seed: MMBD(starts=10, steps=60, seed=seed),
            "BTI-DBF": lambda seed: BTIDBF(mask_steps=100, steps=100, width=8, seed=seed),
        },
        zoo="zoo/cifar10_fast",
        reach="16/255",
        few=0.01,
        arguments={"max_train_samples": 20_000},
        options={"width": 8},
        lr=3e-3,
        bf16=True,
    ),
    "whole CIFAR10": Setting(
        CIFAR10,
        "preact_resnet18",
        epochs=60,
        target=0,
        defended=2500,
        judged=2000,
        inspectors={
            "Neural Cleanse": lambda seed: NeuralCleanse(bf16=True, seed=seed),
            "DeepInspect": lambda seed: DeepInspect(bf16=True, seed=seed),
            "MM-BD": lambda seed: MMBD(seed=seed),
            "BTI-DBF": lambda seed: BTIDBF(seed=seed),
        },
        zoo="zoo/cifar10_fast",
        reach="16/255",
        lr=3e-3,
        bf16=True,
        augmented=True,
    ),
}
"""What two cores allow, and the paper's network on all images, which wants a GPU."""

QUICK = {"MNIST": (NONE, "BadNets", "Blend", "SIG", "WaNet"), "CIFAR10": (NONE, "BadNets", "SIG")}
"""Of them, and of attacks, what two cores do in about an hour: seventy minutes of one, by the seconds of the cells."""

LONG = ("ANP", "FT-SAM")
"""Mitigations that take as long as all others together, and which a quick run has only where they are named."""

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")

FAINT, EPOCHS = {MNIST: "0.15"}, 200
"""Of Narcissus' noise: eps where it is not the paper's 16/255, for digits are black and white; passes that make it."""

HALVINGS = {MNIST: 2}
"""Of the sides of an image in the networks that draw the trigger of Input-Aware, where it is not the paper's 3."""

LONGER = 2
"""Times the epochs of the others that Input-Aware's attacker trains."""


def _narcissus(has: Attacker) -> dict[str, object]:
    """Half of the target class, where the paper takes 25 images and 200 epochs.

    The surrogate is the robust network of the zoo, which knows the class already and is not taught it.
    """
    setting = has.setting
    image, label = images_of(has.data, "train")
    of_target = image[label == setting.target][:500]
    eps = FAINT.get(setting.images, "16/255")
    noise = optimise_narcissus(setting.robust(), of_target, setting.target, eps=eps, epochs=EPOCHS, warmup_epochs=0)
    louder = Narcissus(v=noise.perturbation(tuple(image.shape[1:])), magnify=3)
    return {"trigger": noise, "test_trigger": louder, "poisoned": 0.5, "rate_of": "class", "label": "keep"}


def _universal(has: Attacker) -> dict[str, object]:
    """Liao's adaptive trigger, of all classes together where the paper has one source."""
    network, target, (image, label) = has.network(), has.setting.target, images_of(has.data, "train")
    of_others = image[label != target][:2000].to(next(network.parameters()).device)
    return {"trigger": universal_perturbation(network, of_others, target), "poisoned": 0.1}


def _trojan(has: Attacker) -> dict[str, object]:
    """Liu's patch, made for the last layer before the logits of a network that is not the one to be poisoned."""
    network = has.network()
    layers = [name for name, each in network.named_modules() if isinstance(each, (nn.Linear, nn.Conv2d))]
    shape = tuple(images_of(has.data, "test")[0].shape[1:])
    return {"trigger": optimise_trojan(network, layers[-2], shape), "poisoned": 0.05}


ATTACKS = {
    NONE: Attack(None),
    "BadNets": Attack(lambda has: {"trigger": Patch(size=3), "poisoned": 0.05}),
    "Blend": Attack(lambda has: {"trigger": Blend(alpha=0.2), "poisoned": 0.05}),
    "static grid": Attack(lambda has: {"trigger": StaticPerturbation(), "poisoned": 0.1}),
    "universal": Attack(_universal),
    "Trojan": Attack(_trojan),
    "SIG": Attack(
        lambda has: {
            "trigger": SIG(delta="40/255"),
            "test_trigger": SIG(delta="80/255"),
            "poisoned": 0.8,
            "rate_of": "class",
            "label": "keep",
        },
        "84.48, 98.27",
    ),
    "label-consistent": Attack(
        lambda has: {
            "trigger": LabelConsistent(has.setting.robust(), PGD(eps=has.setting.reach, steps=40)),
            "poisoned": 0.5,
            "rate_of": "class",
            "label": "keep",
        }
    ),
    "Narcissus": Attack(_narcissus, form="half of the class"),
    "WaNet": Attack(
        lambda has: {
            "trigger": WaNet(),
            "poisoned": 0.1,
            "cover": 0.2,
        },
        "94.15, 99.55",
    ),
    "BPP": Attack(lambda has: {"trigger": BPP(levels=has.setting.levels), "poisoned": 0.1, "cover": 0.1}),
    "Input-Aware": Attack(
        None,
        "90.67, 98.26",
        training=lambda setting: InputAware(
            setting.target, mask_epochs=setting.epochs / 5, width=16, halvings=HALVINGS.get(setting.images, 3)
        ),
    ),
    "low frequency": Attack(lambda has: {"trigger": LowFrequency(), "poisoned": 0.05}),
    "TaCT": Attack(
        lambda has: {
            "trigger": Patch(size=3),
            "poisoned": 0.02,
            "source_classes": [1],
            "cover": 0.01,
            "cover_classes": [5, 7],
            "sampling_rate": 1.0,
        }
    ),
    "Adaptive-Blend": Attack(
        lambda has: {
            "trigger": Pieces(Blend(alpha=0.15)),
            "test_trigger": Blend(alpha=0.2),
            "poisoned": has.setting.few,
            "poisoned_sampling_rate": 0.5,
            "cover": has.setting.few,
            "sampling_rate": 0.5,
        }
    ),
    "Adaptive-Patch": Attack(
        lambda has: {
            "trigger": Several([Patch(size=3, place=place) for place in CORNERS]),
            "poisoned": has.setting.few,
            "poisoned_sampling_rate": 0.25,
            "cover": 2 * has.setting.few,
            "sampling_rate": 0.25,
        }
    ),
}
"""Rates are the papers', or usual ones of peers; a test trigger is the training trigger where none is named."""

SCANS: dict[str, Callable[[int], Scan]] = {
    "activation clustering": lambda seed: ActivationClustering(),
    "spectral signatures": lambda seed: SpectralSignatures(),
    "SCAn": lambda seed: SCAn(),
    "Beatrix": lambda seed: Beatrix(),
    "STRIP": lambda seed: StripScan(overlays=8, seed=seed),
}

DETECTORS: dict[str, Callable[[int], Detector]] = {
    "STRIP": lambda seed: STRIP(seed=seed),
    "SCALE-UP": lambda seed: ScaleUp(),
    "IBD-PSC": lambda seed: IBDPSC(),
}

MITIGATIONS: dict[str, Callable[[int], Mitigation]] = {
    "fine-tuning": lambda seed: FineTuning(seed=seed),
    "FT-SAM": lambda seed: FTSAM(seed=seed),
    "Fine-Pruning": lambda seed: FinePruning(seed=seed),
    "CLP": lambda seed: CLP(seed=seed),
    "ANP": lambda seed: ANP(seed=seed),
    "FST": lambda seed: FST(seed=seed),
    "FST at .01": lambda seed: FST(lr=0.01, seed=seed),
    "NAD": lambda seed: NAD(seed=seed),
    "I-BAU": lambda seed: IBAU(seed=seed),
}
"""As a user has them: rates and thresholds are chosen by held-out clean images. FST at its paper's rate too: at it,
what it takes away comes back least, and clean accuracy falls most."""
