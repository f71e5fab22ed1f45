import copy
import dataclasses
import math

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, SubsetRandomSampler

from lightning_adv.attacks import FGSM, PGD, Attack
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.errors import InputError
from tests.callbacks.strangers import CLASSES, PlainModule, images, quarter, trainer

EPS = 0.06
ATTACKS = {"fgsm": FGSM(eps=EPS), "pgd": PGD(eps=EPS, steps=5, restarts=2)}
COUNT = 75


def validated(model, evaluation, loader=None, **options):
    loader = DataLoader(images(COUNT), batch_size=16) if loader is None else loader
    trainer(evaluation, **options).validate(model, loader, verbose=False)
    return evaluation.result


def counted_by_hand(model, dataset=None):
    """Correct images without attack, under each attack and under all of them, by class; image by image."""
    model = copy.deepcopy(model).eval()
    dataset = images(COUNT) if dataset is None else dataset
    counts = {name: [0] * CLASSES for name in ("samples", "clean", "fgsm", "pgd", "worst")}
    for i, (x, y) in enumerate(dataset):
        x, y = x[None], y[None]
        with torch.no_grad():
            verdict = {"samples": True, "clean": bool(model(x).argmax() == y)}
        for name, attack in ATTACKS.items():
            broken = attack.run(model, x, y, index=torch.tensor([i])).success
            verdict[name] = verdict["clean"] and not bool(broken)
        verdict["worst"] = verdict["fgsm"] and verdict["pgd"]
        for name, correct in verdict.items():
            counts[name][int(y)] += correct
    return counts


def as_counts(result):
    attacks = {row.name: row.per_class_correct for row in result.attacks}
    return {
        "samples": result.per_class_samples,
        "clean": result.per_class_clean_correct,
        **attacks,
        "worst": result.worst_case_per_class,
    }


def test_counts_what_a_hand_written_loop_counts(model):
    by_hand = counted_by_hand(model)
    assert as_counts(validated(model, AttackEvaluation(ATTACKS))) == by_hand
    assert 0 < sum(by_hand["worst"]) < sum(by_hand["fgsm"]) < sum(by_hand["clean"]) < COUNT  # or it would prove little


def test_scalars_are_those_counts_as_shares(model):
    evaluation = AttackEvaluation(ATTACKS)
    result, by_hand = validated(model, evaluation), counted_by_hand(model)
    scalars = result.scalars()
    assert scalars["clean_accuracy"] == sum(by_hand["clean"]) / COUNT
    assert scalars["pgd/robust_accuracy"] == sum(by_hand["pgd"]) / COUNT
    assert scalars["worst_case/robust_accuracy"] == sum(by_hand["worst"]) / COUNT
    assert scalars["pgd/success_rate"] == pytest.approx(1 - sum(by_hand["pgd"]) / sum(by_hand["clean"]))
    assert 0 < scalars["pgd/mean_linf"] <= EPS + 1e-6
    assert scalars["pgd/mean_linf"] < scalars["pgd/mean_l2"] < scalars["pgd/mean_l1"]


class Brighten(Attack):
    """Brightens the quarter of one class, which fools images of the others."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def perturb(self, goal, noise):
        return (goal.x + 0.2 * quarter(torch.full_like(goal.y, self.label))).clamp(0, 1)


def test_the_worst_case_is_taken_image_by_image(model):
    result = validated(model, AttackEvaluation({"north": Brighten(0), "south": Brighten(3)}))
    dataset = images(COUNT)
    with torch.no_grad():
        predictions = [model.eval()(Brighten(q)(model, *dataset.tensors)).argmax(1) for q in (0, 3)]
        clean = model(dataset.tensors[0]).argmax(1)
    survivors = sum(all(int(p[i]) == y for p in [clean, *predictions]) for i, y in enumerate(dataset.tensors[1]))
    assert result.worst_case_correct == survivors < min(row.robust_correct for row in result.attacks)


@pytest.mark.parametrize("stage", ["validate", "test"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_runs_in_validate_and_test_under_inference_mode_in_every_precision(model, stage, precision):
    evaluation = AttackEvaluation({"pgd": PGD(eps=EPS, steps=5)}, eps_sweep=[EPS])
    runner = trainer(evaluation, precision=precision)
    loader = DataLoader(images(COUNT), batch_size=16)
    (scalars,) = getattr(runner, stage)(model, loader, verbose=False)
    prefix = {"validate": "val", "test": "test"}[stage]
    assert scalars[f"{prefix}/pgd/robust_accuracy"] == pytest.approx(evaluation.result.attacks[0].robust_accuracy)
    assert evaluation.result.stage == prefix
    assert evaluation.result.samples == COUNT
    assert abs(evaluation.result.attacks[0].robust_correct - sum(counted_by_hand(model.float())["pgd"])) <= 4


def test_runs_in_fit_and_leaves_its_scalars_to_other_callbacks(model, tmp_path):
    evaluation = AttackEvaluation({"pgd": PGD(eps=EPS, steps=2)})
    runner = trainer(evaluation, max_epochs=2, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    runner.fit(model, DataLoader(images(32), batch_size=16), DataLoader(images(COUNT), batch_size=16))
    logged = runner.callback_metrics["val/pgd/robust_accuracy"]
    assert logged == pytest.approx(evaluation.result.attacks[0].robust_accuracy)
    assert [epoch for epoch, _ in evaluation.history["val/pgd/robust_accuracy"]] == [1, 2]
    assert evaluation.result.epoch == 2


class CachingModule(PlainModule):
    """Keeps a tensor that its first forward makes, as position codes of transformers do."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "kept"):
            self.kept = torch.ones_like(x[:1])
        return self.net(x * self.kept)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_model_may_cache_tensors_in_its_first_forward(stage):
    evaluation = AttackEvaluation({"fgsm": FGSM(eps=EPS)})
    getattr(trainer(evaluation), stage)(CachingModule(), DataLoader(images(COUNT), batch_size=16), verbose=False)
    assert evaluation.result.samples == COUNT


@pytest.mark.parametrize("together", [1, 3])
def test_restarts_curves_and_examples_do_not_depend_on_the_batch_size(model, together):
    few = {"batch_size": 7, "together": together}
    some = AttackEvaluation(ATTACKS, **few, examples=3, eps_sweep=[0.03, EPS], sweep_samples=20)
    other = AttackEvaluation(ATTACKS, examples=3, eps_sweep=[0.03, EPS], sweep_samples=20)
    one, two = validated(model, some), validated(model, other)
    assert as_counts(one) == as_counts(two)
    assert one.curves == two.curves
    assert one.scalars() == pytest.approx(two.scalars(), abs=1e-5)
    for name in ATTACKS:
        torch.testing.assert_close(one.examples[name].adversarial, two.examples[name].adversarial)
        shown = one.examples[name]
        fooled = shown.adversarial_predictions != shown.labels
        assert (int(fooled.sum()), int((~fooled).sum())) == (3, 3), "as many that withstood as that did not"


def test_what_is_left_of_batches_that_are_attacked_together_fills_one(model):
    asked = {}
    for together in (1, 4):
        watched, sizes = copy.deepcopy(model), []
        watched.register_forward_hook(lambda module, given, logits, sizes=sizes: sizes.append(len(logits)))
        validated(watched, AttackEvaluation(ATTACKS, together=together), DataLoader(images(COUNT), batch_size=6))
        assert max(sizes) <= 6
        asked[together] = len(sizes)
    assert asked[4] < 0.9 * asked[1]


def shuffled(dataset):
    return DataLoader(dataset, batch_size=8, shuffle=True)


def dropping_the_last(dataset):
    return DataLoader(dataset, batch_size=8, drop_last=True)


@pytest.mark.parametrize("loader", [shuffled, dropping_the_last])
def test_order_and_drop_last_of_the_loader_have_no_say(model, loader):
    result = validated(model, AttackEvaluation(ATTACKS), loader(images(COUNT)))
    assert as_counts(result) == counted_by_hand(model)


def test_a_subset_sampler_chooses_the_images(model):
    chosen = list(range(0, COUNT, 3))
    loader = DataLoader(images(COUNT), batch_size=8, sampler=SubsetRandomSampler(chosen))
    result = validated(model, AttackEvaluation({"fgsm": FGSM(eps=EPS)}), loader)
    assert result.samples == len(chosen)
    labels = images(COUNT).tensors[1][chosen]
    assert result.per_class_samples == torch.bincount(labels, minlength=CLASSES).tolist()


def test_max_samples_is_a_seeded_choice(model):
    def chosen(seed):
        evaluation = AttackEvaluation({"fgsm": FGSM(eps=EPS)}, max_samples=20, seed=seed)
        return validated(model, evaluation)

    assert chosen(0).samples == 20
    assert as_counts(chosen(0)) == as_counts(chosen(0))
    assert chosen(0).per_class_samples != chosen(1).per_class_samples


def test_the_sweep_falls_and_starts_at_the_clean_accuracy(model):
    budgets = [EPS, 0.01, 0.3, "8/255"]
    evaluation = AttackEvaluation(ATTACKS, eps_sweep=budgets, sweep_samples=COUNT)
    result = validated(model, evaluation)
    for name in ATTACKS:
        radii, accuracies = zip(*result.curves[name], strict=True)
        assert list(radii) == [0.0, 0.01, pytest.approx(8 / 255), EPS, 0.3]
        assert accuracies[0] == result.clean_accuracy
        assert list(accuracies) == sorted(accuracies, reverse=True)
        assert accuracies[-1] < accuracies[1]


def test_the_first_budget_of_a_sweep_is_the_attack_itself(model):
    attack = PGD(eps=EPS, steps=5)
    result = validated(model, AttackEvaluation({"pgd": attack}, eps_sweep=[EPS], sweep_samples=COUNT))
    assert result.curves["pgd"] == [(0.0, result.clean_accuracy), (EPS, result.attacks[0].robust_accuracy)]


def test_a_sweep_of_few_images_sees_every_class(model):
    class Watch(AttackEvaluation):
        def track(self, trainer, items, title):
            self.labels = torch.cat([batch.label for batch in items])
            return super().track(trainer, items, title)

    order = images(COUNT).tensors[1].argsort()  # sorted by class, as an image folder is
    dataset = torch.utils.data.Subset(images(COUNT), order.tolist())
    evaluation = Watch({"fgsm": FGSM(eps=EPS)}, eps_sweep=[0.5], sweep_samples=12)
    result = validated(model, evaluation, DataLoader(dataset, batch_size=16))
    assert result.curve_samples == {"fgsm": 12}
    assert len(evaluation.labels) == 12
    assert len(evaluation.labels.unique()) == CLASSES


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate_grad_batches": 3, "val_check_interval": 0.25}, {"max_epochs": 1, "val_check_interval": 2}],
    ids=["plain", "accumulating", "often"],
)
def test_training_goes_on_as_if_there_were_no_evaluation(options):
    def weights(*callbacks):
        torch.manual_seed(3)
        model = PlainModule()
        runner = trainer(*callbacks, **{"max_epochs": 2, "num_sanity_val_steps": 0} | options)
        # A shuffled training loader, and a validation sampler that draws from the global generator.
        sampler = SubsetRandomSampler(range(0, 30, 2))
        runner.fit(
            model,
            DataLoader(images(64), batch_size=8, shuffle=True),
            DataLoader(images(30), batch_size=8, sampler=sampler),
        )
        return model.state_dict()

    evaluation = AttackEvaluation({"pgd": PGD(eps=EPS, steps=2)}, eps_sweep=[EPS])
    without, attacked = weights(), weights(evaluation)
    assert evaluation.history
    assert all(torch.equal(without[key], attacked[key]) for key in without)


def test_averaged_weights_are_the_ones_evaluated_wherever_the_callback_stands():
    class Watch(AttackEvaluation):
        def evaluate(self, trainer, model, images):
            self.seen = copy.deepcopy(model.state_dict())
            return super().evaluate(trainer, model, images)

    def seen(averaging_first):
        torch.manual_seed(0)
        model, averaging, watch = PlainModule(), EMAWeightAveraging(decay=0.9), Watch({"fgsm": FGSM(eps=EPS)})
        pair = [averaging, watch] if averaging_first else [watch, averaging]
        runner = trainer(*pair, max_epochs=1)
        runner.fit(model, DataLoader(images(64), batch_size=8), DataLoader(images(16), batch_size=8))
        return watch.seen, model.state_dict()  # Lightning copies the average to the model when training ends

    for averaging_first in (True, False):
        evaluated, average = seen(averaging_first)
        assert all(torch.equal(evaluated[key], average[key]) for key in average)


def test_two_instances_need_two_names_and_then_log_under_them(model):
    first = AttackEvaluation({"fgsm": FGSM(eps=EPS)})
    second = AttackEvaluation({"fgsm": FGSM(eps=0.5)}, max_samples=20, name="large")
    runner = trainer(first, second)
    (scalars,) = runner.validate(model, DataLoader(images(COUNT), batch_size=16), verbose=False)
    assert scalars["val/fgsm/robust_accuracy"] == pytest.approx(first.result.attacks[0].robust_accuracy)
    assert scalars["val/large/fgsm/robust_accuracy"] == pytest.approx(second.result.attacks[0].robust_accuracy)
    assert scalars["val/clean_accuracy"] == pytest.approx(first.result.clean_accuracy)
    assert scalars["val/large/clean_accuracy"] == pytest.approx(second.result.clean_accuracy)
    assert first.state_key != second.state_key
    with pytest.raises(RuntimeError, match="more than one"):
        trainer(first, AttackEvaluation(ATTACKS))


def test_a_key_that_the_model_logs_itself_stays_the_models(model):
    class Logging(PlainModule):
        def validation_step(self, batch, batch_idx):
            self.log("val/clean_accuracy", 0.125)

    logging = Logging()
    logging.load_state_dict(model.state_dict())
    evaluation = AttackEvaluation({"fgsm": FGSM(eps=EPS)})
    runner = trainer(evaluation)
    for _ in range(2):
        (scalars,) = runner.validate(logging, DataLoader(images(COUNT), batch_size=16), verbose=False)
        assert scalars["val/clean_accuracy"] == 0.125
    assert evaluation.result.scalars()["clean_accuracy"] > 0.125


class TwoOutputs(PlainModule):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x), x

    def training_step(self, batch, batch_idx):
        self.steps = batch_idx + 1
        return self.net(batch[0]).sum()


def test_a_forward_that_gives_more_than_logits_is_refused_before_the_first_step():
    model = TwoOutputs()
    runner = trainer(AttackEvaluation({"fgsm": FGSM(eps=EPS)}), max_epochs=1, num_sanity_val_steps=0)
    with pytest.raises(InputError, match="got a tuple"):
        runner.fit(model, DataLoader(images(16), batch_size=8), DataLoader(images(16), batch_size=8))
    assert not hasattr(model, "steps")


def test_a_forward_of_the_wrong_shape_is_refused():
    class Maps(PlainModule):
        def forward(self, x):
            return x

    with pytest.raises(InputError, match="to as many rows of logits"):
        validated(Maps(), AttackEvaluation({"fgsm": FGSM(eps=EPS)}))


def test_labels_that_the_model_has_no_logit_for_are_refused(model):
    dataset = torch.utils.data.TensorDataset(images(8).tensors[0], torch.full((8,), CLASSES))
    with pytest.raises(InputError, match=r"label 4 is outside \[0, 4\)"):
        validated(model, AttackEvaluation({"fgsm": FGSM(eps=EPS)}), DataLoader(dataset))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attacks": {}}, "name at least one"),
        ({"attacks": {"worst_case": FGSM()}}, "cannot be named worst_case"),
        ({"attacks": ATTACKS, "max_samples": 0}, "max_samples of AttackEvaluation must be at least 1"),
        ({"attacks": ATTACKS, "every_n_epochs": 0}, "every_n_epochs"),
        ({"attacks": ATTACKS, "examples": -1}, "examples"),
        ({"attacks": ATTACKS, "save_images": -1}, "save_images"),
        ({"attacks": ATTACKS, "pictures": "sometimes"}, "pictures must be one of"),
        ({"attacks": ATTACKS, "eps_sweep": [0.0]}, "starts above 0"),
        ({"attacks": ATTACKS, "eps_sweep": [2.0]}, "eps must lie in"),
        ({"attacks": ATTACKS, "together": 0}, "together of AttackEvaluation must be at least 1"),
        ({"attacks": ATTACKS, "precision": "fp16"}, "precision must be float32 or bf16, got 'fp16'"),
        ({"attacks": ATTACKS, "eps_sweep": [0.1], "sweep_samples": 0}, "sweep_samples"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        AttackEvaluation(**arguments)


class Quantised(nn.Module):
    """Rounds its input to a few levels: the gradient of round is zero everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 4).round() / 4


def test_a_quantised_input_sets_off_the_masking_warning_and_a_plain_one_does_not(model):
    masked = copy.deepcopy(model)
    masked.net = nn.Sequential(Quantised(), masked.net)
    evaluation = AttackEvaluation(ATTACKS, eps_sweep=[EPS, 0.6])
    assert not validated(model, evaluation).warnings
    warned = validated(masked, AttackEvaluation(ATTACKS, eps_sweep=[EPS, 0.6]))
    assert any("fgsm: the input gradient was exactly zero" in warning for warning in warned.warnings)
    assert any("where every image can be made grey" in warning for warning in warned.warnings)
    assert warned.attacks[0].zero_gradient_share == 1.0


def test_one_image_is_enough(model):
    result = validated(model, AttackEvaluation(ATTACKS, max_samples=1, eps_sweep=[0.1]))
    assert (result.samples, len(result.clean_confidences)) == (1, 1)


def test_a_model_that_is_never_right_is_evaluated_too():
    class Wrong(PlainModule):
        def forward(self, x):
            return torch.nn.functional.one_hot(torch.full((len(x),), 1), CLASSES) + 0 * x.flatten(1)[:, :1]

    dataset = torch.utils.data.TensorDataset(images(8).tensors[0], torch.zeros(8, dtype=torch.long))
    result = validated(Wrong(), AttackEvaluation(ATTACKS, eps_sweep=[0.1]), DataLoader(dataset, batch_size=4))
    assert result.clean_correct == result.worst_case_correct == 0
    assert result.attacks[0].success_rate is None
    assert not any(math.isnan(value) for value in result.scalars().values())


class Remarking(FGSM):
    """Has something to say about every batch."""

    def run(self, *arguments, **options):
        return dataclasses.replace(super().run(*arguments, **options), notes=("few classes",))


def test_what_an_attack_notes_is_a_warning_of_the_report_once(model):
    evaluation = AttackEvaluation({"remarking": Remarking(eps=0.05)}, batch_size=8)
    validated(model, evaluation)
    assert evaluation.result.warnings == ["remarking: few classes"]
