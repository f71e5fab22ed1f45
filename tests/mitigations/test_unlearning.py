"""Unlearning takes away what reconstructed triggers do, and says which ones it took."""

import pytest
import torch

from lightning_adv.backdoors import save_triggers
from lightning_adv.errors import InputError
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.mitigations import NeuralCleanseUnlearning
from tests.inspectors.problems import PatchModel, block_images
from tests.mitigations.problems import (
    DIGIT,
    PATCH,
    attack_success,
    badnets,
    digits,
    halves,
    hand_built,
    network,
    share,
)

CLEANSE = NeuralCleanse(steps=60, images_per_step=96, batch_size=32)


@pytest.fixture
def triggers(tmp_path):
    """The true trigger of the digits and another one, as an inspection that flags the first would write them."""
    mask, pattern = PATCH.mask_and_pattern((1, 28, 28))
    path = tmp_path / "triggers.safetensors"
    masks, patterns = torch.stack([mask, mask.flip(1, 2)]), torch.stack([pattern, pattern])
    save_triggers(path, masks, patterns, torch.tensor([DIGIT, 7]), {"flagged": str(DIGIT)})
    return str(path)


def test_a_trained_backdoor_goes_and_accuracy_stays(triggers):
    model = badnets()
    clean = share(model, *digits()["test"])
    report = NeuralCleanseUnlearning(triggers=triggers)(model, [digits()["owned"]])
    assert report.repair.unlearnt == (DIGIT,)
    assert attack_success(model) < 0.05
    assert share(model, *digits()["test"]) > clean - 0.02


def test_neural_cleanse_finds_the_trigger_itself():
    model = badnets()
    clean = share(model, *digits()["test"])
    report = NeuralCleanseUnlearning(CLEANSE)(model, [digits()["owned"]])
    assert DIGIT in report.repair.unlearnt
    assert attack_success(model) < 0.2
    assert share(model, *digits()["test"]) > clean - 0.02


def test_every_rate_unlearns_what_one_inspection_has_found():
    class Counting(NeuralCleanse):
        calls = 0

        def __call__(self, model, images):
            Counting.calls += 1
            return super().__call__(model, images)

    mitigation = NeuralCleanseUnlearning(Counting(steps=8, images_per_step=32), labels=[DIGIT], epochs=1)
    mitigation.rates = (100.0, 1e-4)  # the first one leaves nothing of the model
    report = mitigation(badnets(), [digits()["owned"]])
    assert Counting.calls == 1
    assert len(report.repair.rates) == 2
    assert mitigation.found is None


def test_fine_tuning_without_the_trigger_would_not_have_done_it(triggers):
    """The images are the same; only the wrong trigger is unlearnt."""
    model = badnets()
    NeuralCleanseUnlearning(triggers=triggers, labels=[7])(model, [digits()["owned"]])
    assert attack_success(model) > 0.5


def test_all_triggers_are_unlearnt_where_none_is_flagged_and_the_report_says_so():
    images = [block_images((1, 9, 9), 4)]
    model = PatchModel(4, target=None)
    inspector = NeuralCleanse(steps=40, images_per_step=32, batch_size=16, init_cost=1e-2, threshold=1000.0)
    report = NeuralCleanseUnlearning(inspector, epochs=1)(model, images)
    assert len(report.repair.unlearnt) > 1
    assert "no class was flagged" in report.repair.warnings[0]


def test_images_that_leave_a_class_out_still_serve():
    assert NeuralCleanseUnlearning().inspector.allow_missing_classes
    inspector = NeuralCleanse(steps=5, images_per_step=32, batch_size=32, allow_missing_classes=True)
    image, label = digits()["owned"]
    kept = label != (DIGIT + 1) % 10
    report = NeuralCleanseUnlearning(inspector, labels=[DIGIT], epochs=1)(badnets(), [(image[kept], label[kept])])
    assert report.repair.unlearnt == (DIGIT,)


def test_what_cannot_be_unlearnt_is_refused(triggers):
    with pytest.raises(InputError, match="no trigger of class 3 to unlearn"):
        NeuralCleanseUnlearning(triggers=triggers, labels=[3])(network(), [digits()["owned"]])
    with pytest.raises(InputError, match=r"made for images of shape \(1, 28, 28\), and these are \(1, 6, 6\)"):
        NeuralCleanseUnlearning(triggers=triggers)(hand_built(), [halves()])
    with pytest.raises(InputError, match="not both"):
        NeuralCleanseUnlearning(CLEANSE, triggers)
    with pytest.raises(InputError, match="share must lie in"):
        NeuralCleanseUnlearning(share=0)
