"""Every inspector, detector, mitigation, fooling method and optimised trigger on every kind of model."""

import inspect
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import lightning_adv.detectors as detectors
import lightning_adv.fooling as fooling
import lightning_adv.inspectors as inspectors
import lightning_adv.mitigations as mitigations
from lightning_adv.backdoors import UniversalPerturbation, optimise_trojan
from lightning_adv.backdoors.perturbation import universal_perturbation
from lightning_adv.detectors import (
    IBDPSC,
    STRIP,
    Detector,
    DetectorEnsemble,
    KDEConfidence,
    KernelDensity,
    LabelChangeRate,
    LocalIntrinsicDimensionality,
    ModelUncertainty,
    RuntimeMonitor,
    ScaleUp,
    UniformMutation,
)
from lightning_adv.errors import InputError
from lightning_adv.fooling import Fooling, FoolingCPPN, FoolingEvolution, FoolingGradient
from lightning_adv.inspectors import BTIDBF, MMBD, DeepInspect, Inspector, NeuralCleanse, Repeated
from lightning_adv.mitigations import (
    ANP,
    CLP,
    FST,
    FTSAM,
    IBAU,
    NAD,
    FinePruning,
    FineTuning,
    Mitigation,
    NeuralCleanseUnlearning,
)
from tests.wild.models import (
    CLASSES,
    REFUSED,
    Dropping,
    InPlace,
    Noisy,
    Probabilities,
    SometimesNaN,
    Wrapped,
    breaks,
    close_to,
    half,
    images,
    labels,
    mean_verdict,
    sure,
)

X = images(36)
Y = labels(X)
CLEAN = [(X, Y)]
SMALL = {"images_per_step": 8, "batch_size": 8, "draws": 4, "allow_missing_classes": True}
CLEANSE = NeuralCleanse(
    steps=8, batch_size=8, images_per_step=8, init_cost=0.05, success_threshold=0.3, allow_missing_classes=True
)


def _inspected(inspector: Inspector) -> Callable[[nn.Module], Tensor]:
    return lambda model: inspector(model, CLEAN).masks.flatten(1).sum(dim=1)


def _scored(detector: Callable[[], Detector]) -> Callable[[nn.Module], Tensor]:
    return lambda model: detector().fit(model, CLEAN).score(model, X)


def _repaired(mitigation: Mitigation) -> Callable[[nn.Module], Tensor]:
    def weights(model: nn.Module) -> Tensor:
        mitigation(model, CLEAN)
        return model.net[4].weight.detach().float()

    return weights


def _fooled(method: Fooling) -> Callable[[nn.Module], Tensor]:
    return lambda model: method(model, (1, 8, 8)).confidences


def _ensemble() -> DetectorEnsemble:
    members = {"kd": KernelDensity(bandwidth=1.0), "mu": ModelUncertainty(passes=4)}

    class Weighed(DetectorEnsemble):
        def fit(self, model, loader):
            return super().fit(model, loader).learn_weights(model, X[:12], (X[:12] + 0.3).clamp(0, 1))

    return Weighed(members)


class _BehindBatchNorm(IBDPSC):
    """Amplifies a normalisation that is put before the nets, which have none."""

    def learn(self, model, batches):
        super().learn(_normalised(model), batches)

    def measure(self, model, x, index):
        return super().measure(_normalised(model), x, index)


def _normalised(model: nn.Module) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(1).to(next(model.parameters()).dtype), model).eval()


DETECTORS = {
    "DetectorEnsemble": _ensemble,
    "IBDPSC": _BehindBatchNorm,
    "KDEConfidence": lambda: KDEConfidence(bandwidth=1.0),
    "KernelDensity": lambda: KernelDensity(bandwidth=1.0),
    "LabelChangeRate": lambda: LabelChangeRate(UniformMutation(0.2), kappa_1=0.3, mu=1.2, mutations=8),
    "LocalIntrinsicDimensionality": lambda: LocalIntrinsicDimensionality(k=3, reference_samples=None),
    "ModelUncertainty": lambda: ModelUncertainty(passes=4),
    "STRIP": lambda: STRIP(overlays=4),
    "ScaleUp": ScaleUp,
}
TUNING = {"epochs": 1, "lr": 0.01, "batch_size": 8}
REPAIRS = (
    FineTuning(**TUNING), FTSAM(rho=0.1, **TUNING), FST(**TUNING), NAD(betas=(1.0,), **TUNING),
    IBAU(rounds=1, lr=1e-4, batch_size=8), ANP(steps=4, batch_size=8), CLP(u=0.5),
)  # fmt: skip
MEASURES: dict[str, Callable[[nn.Module], Tensor]] = {
    "NeuralCleanse": _inspected(CLEANSE),
    "DeepInspect": _inspected(DeepInspect(steps=4, **SMALL)),
    "BTIDBF": lambda model: torch.tensor(BTIDBF(steps=2, mask_steps=2, width=2)(model, CLEAN).norms),
    "Repeated": _inspected(Repeated(CLEANSE, searches=2)),
    "MMBD": lambda model: torch.tensor(MMBD(starts=2, steps=3)(model, CLEAN).norms),
    "DeepInspect-inverted": _inspected(DeepInspect(steps=2, substitutes=8, inversion_steps=3, **SMALL)),
    **{name: _scored(detector) for name, detector in DETECTORS.items()},
    "FinePruning": _repaired(FinePruning(epochs=1, lr=0.01, batch_size=8)),
    **{type(each).__name__: _repaired(each) for each in REPAIRS},
    "NeuralCleanseUnlearning": _repaired(NeuralCleanseUnlearning(CLEANSE, epochs=1, lr=0.01, batch_size=8)),
    "FoolingGradient": _fooled(FoolingGradient(steps=4)),
    "FoolingEvolution": _fooled(FoolingEvolution(generations=3, population=8)),
    "FoolingCPPN": _fooled(FoolingCPPN(generations=3, population=8)),
    "UniversalPerturbation": lambda model: universal_perturbation(model, X, target=1, eps=0.1, steps=4).v,
    "TrojanTrigger": lambda model: optimise_trojan(model, "net.4", (1, 8, 8), size=3, steps=4).pattern,
}  # fmt: skip
every_measure = pytest.mark.parametrize("name", MEASURES)
NO_LOGITS_NEEDED = ("TrojanTrigger",)
LABELS_SUFFICE = ("LabelChangeRate", "ScaleUp")


def _methods(package: ModuleType, base: type) -> set[str]:
    public = [each for each in vars(package).values() if inspect.isclass(each) and issubclass(each, base)]
    return {each.__name__ for each in public if not inspect.isabstract(each)}


def test_every_method_is_asked():
    kinds = ((inspectors, Inspector), (detectors, Detector), (mitigations, Mitigation), (fooling, Fooling))
    for package, base in kinds:
        assert _methods(package, base) <= {name.split("-")[0] for name in MEASURES}, package.__name__


@every_measure
def test_a_model_that_works_in_place_is_measured_as_any_other(name):
    before = X.clone()
    expected, found = (MEASURES[name](model) for model in (Wrapped(), InPlace()))
    assert torch.equal(X, before)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@every_measure
def test_a_model_of_half_precision_is_measured_as_one_of_float32(name):
    expected, found = (MEASURES[name](model) for model in (Wrapped(), half(Wrapped())))
    assert found.dtype in (torch.float32, torch.float64)
    assert close_to(found, expected, 0.05)


@every_measure
@pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.__name__)
def test_a_model_without_logits_is_told_so(name, model):
    if name in NO_LOGITS_NEEDED:
        pytest.skip("looks at a hidden layer alone")
    message = "labels \\[N\\], or to logits \\[N, K\\]" if name in LABELS_SUFFICE else REFUSED[model]
    with pytest.raises(InputError, match=message):
        MEASURES[name](model())


@pytest.mark.parametrize("name", [name for name in MEASURES if name not in NO_LOGITS_NEEDED + LABELS_SUFFICE])
def test_probabilities_are_said(name):
    with pytest.warns(UserWarning, match="look like probabilities"):
        MEASURES[name](Probabilities())


@every_measure
def test_a_model_that_breaks_on_some_images_does_not_break_the_measure(name):
    assert breaks(X).any()
    found = MEASURES[name](SometimesNaN())
    if name in DETECTORS and name != "LocalIntrinsicDimensionality":  # which looks at hidden layers alone
        return
    assert found.isfinite().all() or name in _methods(mitigations, Mitigation)


@pytest.mark.parametrize("name", [name for name in DETECTORS if name != "LocalIntrinsicDimensionality"])
def test_an_image_that_breaks_the_model_is_suspicious(name):
    model, detector = SometimesNaN(), DETECTORS[name]()
    detector.fit(model, CLEAN)
    if name != "LabelChangeRate":
        detector.threshold = float(detector.score(model, X).nan_to_num(nan=-torch.inf).max())  # above all others
    logits, suspicious = RuntimeMonitor(model, detector)(X)
    assert torch.equal(logits.isnan().all(dim=1), breaks(X))
    assert suspicious[breaks(X)].all()
    assert not suspicious.all()


class Numbers(Detector):
    """Shows, by its scores, which images it was shown."""

    def measure(self, model: nn.Module, x: Tensor, index: Tensor) -> Tensor:
        return index[:, None].double()


@pytest.mark.parametrize("model", [Noisy, Dropping], ids=lambda model: model.__name__)
def test_a_threshold_is_not_set_on_images_that_a_randomised_model_gets_right_by_luck(model):
    x = images(96)
    said, clear = mean_verdict(model(), x)
    y = torch.where(torch.arange(len(x)) % 4 == 0, (said + 1) % CLASSES, said)
    shown = torch.zeros(len(x), dtype=torch.bool)
    shown[Numbers().clean_scores(model(), [(x[:40], y[:40]), (x[40:], y[40:])]).long()] = True
    assert torch.equal(shown[clear], (said == y)[clear])


@pytest.mark.parametrize("name", ["KernelDensity", "KDEConfidence"])
@pytest.mark.parametrize("wrong", [-100, CLASSES])
def test_a_label_that_no_class_has_is_refused(name, wrong):
    y = Y.clone()
    y[3] = wrong
    with pytest.raises(InputError, match="count from 0"):
        DETECTORS[name]().fit(Wrapped(), [(X, y)])


def test_a_universal_perturbation_of_a_sure_model_of_half_precision_moves():
    model = sure()
    found: list[UniversalPerturbation] = [
        universal_perturbation(each, X[:4], target=1, eps=0.1, steps=4) for each in (model, half(model))
    ]
    assert (found[0].v.sign() == found[1].v.sign()).double().mean() > 0.95
