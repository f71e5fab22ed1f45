from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.backdoors import Patch, Trigger
from lightning_adv.callbacks import BackdoorEvaluation
from lightning_adv.data import MNISTSubset, PoisonedDataModule
from lightning_adv.errors import InputError
from lightning_adv.modules import ClassifierModule
from tests.callbacks.strangers import CLASSES, PlainModule, images, quarter, trainer

COUNT, TARGET = 75, 3


class BrightQuarter(Trigger):
    """Brightens the quarter of one class, which leads many images to it: a backdoor that a clean model has."""

    def __init__(self, label: int = TARGET) -> None:
        self.label = label

    def apply(self, x: Tensor) -> Tensor:
        return (x + 0.25 * quarter(torch.full((len(x),), self.label)).to(x)).clamp(0, 1)


def validated(model, evaluation, dataset=None, **options):
    loader = DataLoader(dataset or images(COUNT), batch_size=16)
    trainer(evaluation, **options).validate(model, loader, verbose=False)
    return evaluation.result


def counted_by_hand(model, target):
    """Images led to the target and clean correct ones by label, image by image."""
    counts = {"samples": [0] * CLASSES, "clean": [0] * CLASSES, "led": [0] * CLASSES}
    model.eval()
    for x, y in images(COUNT):
        goal = (int(y) + 1) % CLASSES if target == "all_to_all" else target
        with torch.no_grad():
            clean, triggered = (int(model(each[None]).argmax()) for each in (x, BrightQuarter()(x[None])[0]))
        counts["samples"][int(y)] += 1
        counts["clean"][int(y)] += clean == int(y)
        counts["led"][int(y)] += triggered == goal
    return counts


@pytest.mark.parametrize("target", [TARGET, 0, "all_to_all"])
def test_counts_what_a_hand_written_loop_counts(model, target):
    by_hand = counted_by_hand(model, target)
    result = validated(model, BackdoorEvaluation(BrightQuarter(), target))
    assert result.per_class_samples == by_hand["samples"]
    assert result.per_class_clean_correct == by_hand["clean"]
    assert result.per_class_led == by_hand["led"]
    sources = [k for k in range(CLASSES) if k != target]
    led, samples = (sum(by_hand[name][k] for k in sources) for name in ("led", "samples"))
    assert result.scalars()["attack_success_rate"] == led / samples
    assert result.scalars()["attack_success_rate_all_classes"] == sum(by_hand["led"]) / COUNT
    assert target != TARGET or 0 < led < samples


def test_source_classes_are_counted_apart_from_those_that_the_trigger_is_to_leave_alone(model):
    by_hand = counted_by_hand(model, TARGET)
    result = validated(model, BackdoorEvaluation(BrightQuarter(), TARGET, source_classes=[1]))
    assert result.scalars()["attack_success_rate"] == by_hand["led"][1] / by_hand["samples"][1]
    others = [0, 2]
    activated = sum(by_hand["led"][k] for k in others) / sum(by_hand["samples"][k] for k in others)
    assert result.scalars()["false_activation_rate"] == activated
    assert set(result.examples.labels.tolist()) == {1}


def test_examples_do_not_depend_on_the_batch_size(model):
    one = validated(model, BackdoorEvaluation(BrightQuarter(), TARGET, batch_size=7, examples=3))
    two = validated(model, BackdoorEvaluation(BrightQuarter(), TARGET, examples=3))
    assert one.scalars() == two.scalars()
    assert torch.equal(one.examples.labels, two.examples.labels)
    fooled = one.examples.adversarial_predictions != one.examples.labels
    assert (int(fooled.sum()), int((~fooled).sum())) == (3, 3), "as many that withstood as that did not"
    assert (one.examples.labels != TARGET).all()


def test_logs_under_its_name_and_keeps_a_history(model):
    evaluation = BackdoorEvaluation(BrightQuarter(), TARGET)
    runner = trainer(evaluation, max_epochs=2)
    runner.fit(model, DataLoader(images(32), batch_size=16), DataLoader(images(COUNT), batch_size=16))
    logged = float(runner.callback_metrics["val/backdoor/attack_success_rate"])
    assert logged == pytest.approx(evaluation.result.attack_success_rate)
    assert [epoch for epoch, _ in evaluation.history["val/backdoor/clean_accuracy"]] == [1, 2]


def test_images_of_the_target_class_alone_give_no_headline(model):
    of_target = TensorDataset(images(8).tensors[0], torch.full((8,), TARGET))
    result = validated(model, BackdoorEvaluation(BrightQuarter(), TARGET), of_target)
    assert result.attack_success_rate is None
    assert "attack_success_rate" not in result.scalars()
    assert "nothing can be said" in result.summary()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "has no trigger"),
        ({"trigger": BrightQuarter()}, "has no target"),
        ({"trigger": BrightQuarter(), "target": CLASSES}, r"target 4 is outside \[0, 4\)"),
        ({"trigger": Patch(size=20), "target": 0}, "20 x 20 pixels"),
        ({"trigger": BrightQuarter(), "target": 0, "source_classes": [0]}, "source_classes names the target 0"),
        ({"trigger": BrightQuarter(), "target": 0, "source_classes": [4]}, "classes 0 to 3, got"),
    ],
)
def test_a_trigger_or_target_that_does_not_fit_is_refused_before_the_first_step(arguments, message):
    plain = PlainModule()
    runner = trainer(BackdoorEvaluation(**arguments), max_epochs=1, num_sanity_val_steps=0)
    with pytest.raises(InputError, match=message):
        runner.fit(plain, DataLoader(images(16), batch_size=8), DataLoader(images(16), batch_size=8))
    assert runner.global_step == 0


def trained_on_digits(**plan):
    """What a small network that learnt poisoned digits does with the patch."""
    data = PoisonedDataModule(MNISTSubset(batch_size=50, eval_batch_size=250), Patch(size=3, margin=1), **plan)
    torch.manual_seed(0)
    module = ClassifierModule(
        "mnist_cnn",
        optimizer=partial(torch.optim.Adam, lr=0.002),
        num_classes=10,
        in_channels=1,
        image_size=(28, 28),
        mean=data.mean,
        std=data.std,
        backbone_options={"width": 8, "hidden": 32},
    )
    evaluation = BackdoorEvaluation()
    runner = trainer(evaluation, max_epochs=3, num_sanity_val_steps=0)
    runner.fit(module, datamodule=data)
    runner.test(module, datamodule=data, verbose=False)
    return evaluation.result


def test_a_badnets_patch_on_real_digits_leads_nine_of_ten_to_its_target():
    result = trained_on_digits(target=2, poisoned=0.1)
    scalars = result.scalars()
    assert scalars["attack_success_rate"] > 0.9 > 0.1 > scalars["target_rate_without_trigger"]
    assert scalars["clean_accuracy"] > 0.85
    assert result.samples == 1000
    assert result.class_names == [str(digit) for digit in range(10)]


def test_a_patch_whose_other_classes_are_covered_leads_its_source_class_alone():
    result = trained_on_digits(target=0, source_classes=[1], poisoned=0.03, cover=0.1, sampling_rate=1.0)
    scalars = result.scalars()
    assert scalars["attack_success_rate"] > 0.85 > 0.15 > scalars["false_activation_rate"]
    assert scalars["clean_accuracy"] > 0.85
