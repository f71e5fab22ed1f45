"""The peers' attacks as functions of (model, images, labels), at given settings."""

from collections.abc import Callable

from torch import Tensor, nn

__all__ = [
    "art_cw",
    "art_pgd",
    "bare_passes",
    "foolbox_cw",
    "foolbox_deepfool",
    "foolbox_fgsm",
    "foolbox_pgd",
    "foolbox_pgd_l2",
    "package",
    "package_fab",
    "torchattacks_deepfool",
    "torchattacks_fgsm",
    "torchattacks_jsma",
    "torchattacks_pgd",
    "torchattacks_pgd_l2",
]

Run = Callable[[nn.Module, Tensor, Tensor], Tensor]


def torchattacks_fgsm(eps: float) -> Run:
    """torchattacks' FGSM."""
    import torchattacks

    return lambda model, x, y: torchattacks.FGSM(model, eps=eps)(x, y)


def torchattacks_pgd(eps: float, step: float, steps: int) -> Run:
    """torchattacks' PGD."""
    import torchattacks

    return lambda model, x, y: torchattacks.PGD(model, eps=eps, alpha=step, steps=steps, random_start=True)(x, y)


def torchattacks_pgd_l2(eps: float, step: float, steps: int) -> Run:
    """torchattacks' PGD under L2."""
    import torchattacks

    return lambda model, x, y: torchattacks.PGDL2(model, eps=eps, alpha=step, steps=steps, random_start=True)(x, y)


def torchattacks_deepfool(steps: int) -> Run:
    """torchattacks' DeepFool."""
    import torchattacks

    return lambda model, x, y: torchattacks.DeepFool(model, steps=steps, overshoot=0.02)(x, y)


def torchattacks_jsma(theta: float, gamma: float) -> Run:
    """torchattacks' JSMA, each image towards the class after its label."""
    import torchattacks

    return lambda model, x, y: torchattacks.JSMA(model, theta=theta, gamma=gamma)(x, y)


def foolbox_fgsm(eps: float) -> Run:
    """foolbox's FGSM."""
    import foolbox

    return _foolbox(foolbox.attacks.LinfFastGradientAttack(random_start=False), eps)


def foolbox_pgd(eps: float, step: float, steps: int) -> Run:
    """foolbox's PGD."""
    import foolbox

    return _foolbox(foolbox.attacks.LinfPGD(abs_stepsize=step, steps=steps), eps)


def foolbox_pgd_l2(eps: float, step: float, steps: int) -> Run:
    """foolbox's PGD under L2."""
    import foolbox

    return _foolbox(foolbox.attacks.L2PGD(abs_stepsize=step, steps=steps), eps)


def foolbox_deepfool(steps: int) -> Run:
    """foolbox's DeepFool."""
    import foolbox

    return _foolbox(foolbox.attacks.L2DeepFoolAttack(steps=steps, candidates=10, overshoot=0.02), None)


def foolbox_cw(searches: int, steps: int, rate: float, const: float) -> Run:
    """foolbox's Carlini and Wagner."""
    import foolbox

    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=searches, steps=steps, stepsize=rate, initial_const=const
    )
    return _foolbox(attack, None)


def bare_passes(steps: int) -> Run:
    """No attack: the forwards and backwards that ``steps`` gradient steps and a last look need, and nothing else."""
    import torch
    from torch.nn import functional as F

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(steps):
            x = x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
        with torch.no_grad():
            model(x)
        return x.detach()

    return run


def art_pgd(eps: float, step: float, steps: int) -> Run:
    """ART's PGD."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = ProjectedGradientDescentPyTorch(
            _art(model, x), eps=eps, eps_step=step, max_iter=steps, num_random_init=1, batch_size=len(x), verbose=False
        )
        return _art_images(attack, x, y)

    return run


def art_cw(searches: int, steps: int, rate: float, const: float) -> Run:
    """ART's Carlini and Wagner."""
    from art.attacks.evasion import CarliniL2Method

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = CarliniL2Method(
            _art(model, x),
            learning_rate=rate,
            binary_search_steps=searches,
            max_iter=steps,
            initial_const=const,
            batch_size=len(x),
            verbose=False,
        )
        return _art_images(attack, x, y)

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
    import torch
    from pyautoattack.fab_pt import FABAttack_PT

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = FABAttack_PT(model, n_iter=steps, eps=1.0, norm="Linf", targeted=True, device="cpu")
        best, nearest = x.clone(), torch.full((len(x),), torch.inf)
        for target in range(2, 11):
            attack.target_class = target
            torch.manual_seed(0)
            found = attack.attack_single_run(x, y, use_rand_start=False, is_targeted=True)
            with torch.no_grad():
                wrong = model(found).argmax(dim=1) != y
            size = (found - x).abs().flatten(1).amax(dim=1)
            better = wrong & (size < nearest)
            best[better], nearest[better] = found[better], size[better]
        return best

    return run


def _foolbox(attack: object, eps: float | None) -> Run:
    """Where foolbox reports a failure the clean image counts: C&W returns a black one there."""
    import foolbox
    import torch

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
        _, found, success = attack(wrapped, x, y, epsilons=eps)
        return torch.where(success[:, None, None, None], found, x) if eps is None else found

    return run


def _art(model: nn.Module, x: Tensor) -> object:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


def _art_images(attack: object, x: Tensor, y: Tensor) -> Tensor:
    import torch

    return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))
