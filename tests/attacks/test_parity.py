"""The same images through two peer libraries at equal settings: the same robust accuracy, the same pixels.

``attack(model, x, y)``, the last iterate, is what the peers return; ``attack.run`` also keeps the best iterate and
must therefore be at least as strong. From a random start accuracies are compared, over 500 images to half a percentage
point, or to what chance explains where the two fool different images: of d such images, each one's by a fair coin, the
counts differ by three standard deviations sqrt(d) at most. Without a random start, pixels too. There are enough steps
to forget the start: torchattacks starts its L2 attack nearer to the image than a uniform point of the ball lies, which
after 20 steps of eps / 10 still shows (1.5 points).
"""

import warnings
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import BIM, FGSM, PGD, Attack

pytestmark = pytest.mark.xdist_group("digits")  # one worker asks each peer once

HALF_A_POINT = 0.005
LINF = {"eps": 0.1, "step_size": 0.02, "steps": 40}
L2 = {"eps": 1.5, "step_size": 0.3, "steps": 40}

OURS: dict[str, Attack] = {
    "fgsm": FGSM(eps=LINF["eps"]),
    "bim": BIM(**LINF),
    "pgd": PGD(**LINF),
    "pgd-l2": PGD(**L2, norm="L2"),
}

Perturb = Callable[[nn.Module, Tensor, Tensor], Tensor]


def imported(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers import names that scipy and others have deprecated
        return pytest.importorskip(name, reason=f"{name} is not installed (extra: dev)", exc_type=ImportError)


def foolbox_attacks() -> dict[str, Perturb]:
    foolbox = imported("foolbox")
    linf = {"abs_stepsize": LINF["step_size"], "steps": LINF["steps"]}

    def perturb(attack, eps: float) -> Perturb:
        def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            return attack(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=eps)[1]

        return run

    attacks = foolbox.attacks
    l2 = {"abs_stepsize": L2["step_size"], "steps": L2["steps"]}
    return {
        "fgsm": perturb(attacks.LinfFastGradientAttack(), LINF["eps"]),
        "bim": perturb(attacks.LinfBasicIterativeAttack(**linf), LINF["eps"]),
        "pgd": perturb(attacks.LinfPGD(**linf), LINF["eps"]),
        "pgd-l2": perturb(attacks.L2PGD(**l2), L2["eps"]),
    }


def torchattacks_attacks() -> dict[str, Perturb]:
    torchattacks = imported("torchattacks")
    linf = {"eps": LINF["eps"], "alpha": LINF["step_size"], "steps": LINF["steps"]}
    return {
        "fgsm": lambda model, x, y: torchattacks.FGSM(model, eps=LINF["eps"])(x, y),
        "bim": lambda model, x, y: torchattacks.BIM(model, **linf)(x, y),
        "pgd": lambda model, x, y: torchattacks.PGD(model, **linf)(x, y),
        "pgd-l2": lambda model, x, y: torchattacks.PGDL2(
            model, eps=L2["eps"], alpha=L2["step_size"], steps=L2["steps"]
        )(x, y),
    }


PEERS = {"foolbox": foolbox_attacks, "torchattacks": torchattacks_attacks}
every_attack = pytest.mark.parametrize("name", OURS)

Digits = tuple[nn.Module, Tensor, Tensor]


@pytest.fixture(scope="module")
def our_images(digits: Digits) -> dict[str, Tensor]:
    return {name: attack(*digits) for name, attack in OURS.items()}


@pytest.fixture(scope="module")
def withstood(digits: Digits) -> dict[str, Tensor]:
    """Which images our evaluation leaves right."""
    return {name: (~attack.run(*digits).success).double() for name, attack in OURS.items()}


@pytest.fixture(scope="module", params=PEERS)
def peer_images(request: pytest.FixtureRequest, digits: Digits) -> dict[str, Tensor]:
    attacks = PEERS[request.param]()
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the peers' random starts
        return {name: perturb(*digits) for name, perturb in attacks.items()}


def right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x).argmax(dim=1) == y).double()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return right(model, x, y).mean().item()


def by_chance(ours: Tensor, theirs: Tensor) -> float:
    """How far two accuracies over the same images may be apart."""
    return max(HALF_A_POINT, 3 * float((ours != theirs).sum()) ** 0.5 / len(ours)) + 1e-9


@every_attack
def test_the_digits_are_known_and_the_attacks_neither_harmless_nor_perfect(digits, our_images, name):
    assert accuracy(*digits) > 0.93
    assert 0.02 < accuracy(digits[0], our_images[name], digits[2]) < 0.9


@every_attack
def test_robust_accuracy_is_the_peers(digits, our_images, peer_images, name):
    ours, theirs = (right(digits[0], images[name], digits[2]) for images in (our_images, peer_images))
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=by_chance(ours, theirs))


@every_attack
def test_the_evaluation_is_at_least_as_strong_as_the_peers(digits, withstood, peer_images, name):
    ours, theirs = withstood[name], right(digits[0], peer_images[name], digits[2])
    assert ours.mean() <= theirs.mean() + by_chance(ours, theirs)


@pytest.mark.parametrize("name", ["fgsm", "bim"])
def test_without_a_random_start_the_images_are_the_peers(our_images, peer_images, name):
    """All but one pixel in a thousand: the sign of a gradient within rounding of zero may differ."""
    gap = (our_images[name] - peer_images[name]).abs()
    assert (gap > 1e-5).double().mean() < 1e-3
