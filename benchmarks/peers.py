"""The peers' attacks as functions of (model, images, labels), at given settings."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.networks import all_predicted

__all__ = ["bare_passes", "of_art", "of_foolbox", "of_torchattacks", "package", "package_fab"]

Run = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Adversarial images of a model, images and labels."""


def of_torchattacks(attack: Callable[..., Run], **settings: float) -> Run:
    """An attack of torchattacks."""
    return lambda model, x, y: attack(model, **settings)(x, y)


def of_foolbox(attack: Callable[..., tuple[object, Tensor, Tensor]], eps: float | None = None) -> Run:
    """An attack of foolbox; where it reports a failure the clean image counts: C&W returns a black one there."""
    import foolbox

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
        _, found, success = attack(wrapped, x, y, epsilons=eps)
        return torch.where(success[:, None, None, None], found, x) if eps is None else found

    return run


def of_art(attack: Callable[..., object], **settings: float) -> Run:
    """An attack of ART for torch."""
    from art.estimators.classification import PyTorchClassifier

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        described = {"input_shape": tuple(x.shape[1:]), "nb_classes": 10, "clip_values": (0.0, 1.0)}
        wrapped = PyTorchClassifier(model, loss=nn.CrossEntropyLoss(), device_type="cpu", **described)
        made = attack(wrapped, batch_size=len(x), verbose=False, **settings)
        return torch.from_numpy(made.generate(x.numpy(), y.numpy()))

    return run


def bare_passes(steps: int) -> Run:
    """No attack: the forwards and backwards that ``steps`` gradient steps and a last look need, and nothing else."""

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(steps):
            x = x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
        with torch.no_grad():
            model(x)
        return x.detach()

    return run


def package(eps: float, attacks: list[str] | None, queries: int | None = None) -> Run:
    """The AutoAttack package: ``standard``, or the named attacks."""
    from pyautoattack import AutoAttack

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        version = "standard" if attacks is None else "custom"
        suite = AutoAttack(model, attacks=attacks, version=version, norm="Linf", eps=eps, seed=0)
        suite.apgd.n_restarts = 1  # as in "standard"; a list of attacks starts five times
        if queries is not None:
            suite.square.n_queries = queries
        found = suite.run_standard_evaluation(x, y, batch_size=len(x))
        return found[0] if isinstance(found, tuple) else found

    return run


def package_fab(steps: int) -> Run:
    """The package's targeted FAB without a budget: the nearest of nine targets; by itself it stops after one."""
    from pyautoattack.fab_pt import FABAttack_PT

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = FABAttack_PT(model, n_iter=steps, eps=1.0, norm="Linf", targeted=True, device="cpu")
        best, nearest = x.clone(), torch.full((len(x),), torch.inf)
        for target in range(2, 11):
            attack.target_class = target
            torch.manual_seed(0)
            found = attack.attack_single_run(x, y, use_rand_start=False, is_targeted=True)
            wrong = all_predicted(model, found) != y
            size = (found - x).abs().flatten(1).amax(dim=1)
            better = wrong & (size < nearest)
            best[better], nearest[better] = found[better], size[better]
        return best

    return run
