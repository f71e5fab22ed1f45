"""The same on a GPU as on the CPU; without a GPU, the CPU stands beside itself and shows that the comparison runs."""

import copy

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_adv.attacks import PGD, SampleNoise, perturbation_norms
from lightning_adv.backdoors import Patch
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.data import CropFlip, MNISTSubset, PoisonedDataModule, float_images
from lightning_adv.detectors import LabelChangeRate, LocalIntrinsicDimensionality, UniformMutation
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.models import create_model
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import AdversarialTraining
from lightning_adv.purifiers import JPEG, BitDepth, DifferentiableJPEG, GaussianBlur, MedianFilter, TotalVariation

from .attacks.laws import asks, every, run, stands_for_its_class
from .attacks.problems import tilted_problem

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
on_each_device = pytest.mark.parametrize("device", DEVICES)

PURIFIERS = {
    "jpeg": JPEG(50),
    "differentiable-jpeg": DifferentiableJPEG(50),
    "blur": GaussianBlur(0, 0.5),
    "median": MedianFilter(3),
    "bits": BitDepth(3),
    "tv": TotalVariation(),
}


def digits(**given):
    data = MNISTSubset(max_train_samples=200, max_val_samples=40, batch_size=40, **given)
    data.setup()
    return data


def small_net(seed=0):
    torch.manual_seed(seed)
    return create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28)).eval()


@on_each_device
def test_noise_has_equal_bits(device):
    index, like = torch.tensor([3, 1, 4]), torch.zeros(3, 2, 5)
    here, there = SampleNoise(7, index), SampleNoise(7, index.to(device))
    assert torch.equal(here.uniform(like), there.uniform(like.to(device)).cpu())
    torch.testing.assert_close(here.normal(like), there.normal(like.to(device)).cpu())


@on_each_device
@every(lambda record: stands_for_its_class(record) or (asks(record) and record.attack.norm == "L2"))
def test_attacks_give_the_same_verdicts(device, name):
    model, x, y = tilted_problem(8)
    here = run(name, model, x, y)
    there = run(name, copy.deepcopy(model).to(device), x.to(device), y.to(device))
    assert there.images.device.type == device
    assert torch.equal(here.success, there.success.cpu())
    for norm, length in perturbation_norms(x, there.images.cpu()).items():
        torch.testing.assert_close(length, perturbation_norms(x, here.images)[norm], rtol=0.05, atol=1e-4)


@on_each_device
@pytest.mark.parametrize("name", PURIFIERS)
def test_purifiers_give_the_same_images(device, name):
    x, index = float_images(digits().datasets["val"][list(range(8))].image), torch.arange(8)
    purifier = PURIFIERS[name]
    there = copy.deepcopy(purifier).to(device)(x.to(device), index.to(device))
    assert there.device.type == device
    assert (there.cpu() - purifier(x, index)).abs().mean() < 1 / 255


@on_each_device
def test_training_on_resident_poisoned_images_and_its_evaluation(device, tmp_path):
    def trained(accelerator):
        torch.manual_seed(0)
        data = PoisonedDataModule(digits(augment=CropFlip(padding=1), resident=True), Patch(size=3), 2, poisoned=0.1)
        evaluation = AttackEvaluation({"pgd": PGD(0.1, steps=3)}, max_samples=20)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            max_epochs=1, accelerator=accelerator, devices=1, callbacks=[evaluation], enable_checkpointing=False,
            default_root_dir=tmp_path, **quiet,
        )  # fmt: skip
        module = ClassifierModule(small_net().train(), AdversarialTraining(PGD(0.1, steps=2)), num_classes=10)
        trainer.fit(module, data)
        assert evaluation.result.samples == 20
        return torch.cat([p.detach().cpu().flatten() for p in module.parameters()])

    torch.testing.assert_close(trained(device), trained("cpu"), rtol=0.02, atol=0.02)


@on_each_device
def test_neural_cleanse_finds_the_same_norms(device):
    x = float_images(digits().datasets["val"][list(range(40))].image)
    inspector = NeuralCleanse(steps=10, images_per_step=32)
    here, there = inspector(small_net(), x), inspector(small_net().to(device), x)
    assert here.flagged == there.flagged
    torch.testing.assert_close(torch.tensor(there.norms), torch.tensor(here.norms), rtol=0.02, atol=0.1, equal_nan=True)


@on_each_device
@pytest.mark.parametrize(
    "detector", [LabelChangeRate(UniformMutation(0.3), kappa_1=0.02, mutations=20), LocalIntrinsicDimensionality(k=5)]
)
def test_detectors_give_the_same_scores(device, detector):
    data = digits()
    batch = data.datasets["train"][list(range(100))]
    loader = [(batch.image, batch.label)]
    x = float_images(data.datasets["val"][list(range(8))].image)
    here = copy.deepcopy(detector).fit(small_net(), loader).score(small_net(), x)
    model = small_net().to(device)
    there = copy.deepcopy(detector).fit(model, loader).score(model, x.to(device))
    torch.testing.assert_close(there.cpu(), here, rtol=0.05, atol=0.05)
