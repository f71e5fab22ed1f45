from functools import partial

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import seed_everything
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.attacks import FGSM, PGD
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.errors import InputError
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import TRADES, AdversarialTraining, CrossEntropy
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import CHANNELS, CLASSES, SIZE, images, trainer

IMAGES, LABELS = images(32).tensors
OBJECTIVES = {
    "standard": (CrossEntropy(label_smoothing=0.1), "clean"),
    "madry": (AdversarialTraining(PGD(eps=0.06, steps=2)), "robust"),
    "goodfellow": (AdversarialTraining(FGSM(eps=0.06), clean_weight=0.5), "robust"),
    "trades": (TRADES(PGD(eps=0.06, steps=2, start="gaussian")), "clean"),
}


def fit(model, *callbacks, **options):
    runner = trainer(*callbacks, **{"max_epochs": 2, "num_sanity_val_steps": 0} | options)
    runner.fit(model, datamodule=SmallData())
    return runner


@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_objective_trains_and_names_the_accuracy_that_it_judges(name):
    objective, judged = OBJECTIVES[name]
    model = classifier(objective)
    before = model(IMAGES)
    runner = fit(model)
    assert f"train/{judged}_accuracy" in runner.callback_metrics
    assert not torch.equal(model(IMAGES), before)


def test_an_objective_of_ones_own_has_the_steps_on_a_batch_that_it_asks_for():
    class Twice(CrossEntropy):
        replays, told = 2, 0

        def after_backward(self):
            self.told += 1

    objective = Twice()
    runner = fit(classifier(objective), max_epochs=1)
    assert objective.told == runner.global_step == 2 * runner.num_training_batches


class Watch(Callback):
    """What the objective returned and saw at every step."""

    def __init__(self, model):
        self.steps, self.noise = [], []
        inner = model.objective

        class Recording(type(inner)):
            def __call__(recording, backbone, x, y):
                loss, logits = inner(backbone, x, y)
                self.steps.append((float(loss.detach()), logits, y))
                self.noise.append(float(torch.rand(())))
                return loss, logits

        model.objective = Recording()


def test_training_metrics_are_those_of_all_images_of_the_epoch():
    model = classifier(CrossEntropy())
    watch = Watch(model)
    runner = fit(model, max_epochs=1)
    losses, logits, labels = zip(*watch.steps, strict=True)
    hits = torch.cat([each.argmax(dim=1) for each in logits]) == torch.cat(labels)
    assert runner.callback_metrics["train/clean_accuracy"] == pytest.approx(float(hits.float().mean()))
    assert runner.callback_metrics["train/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert runner.callback_metrics["train/loss_step"] == pytest.approx(losses[-1], rel=1e-5)


SOFT = 0.7 * F.one_hot(LABELS, CLASSES) + 0.3 * F.one_hot((LABELS + 1) % CLASSES, CLASSES)


@pytest.mark.parametrize(
    "labels", [SOFT, SOFT.double(), LABELS.to(torch.uint8), LABELS.to(torch.int16)], ids=lambda y: str(y.dtype)
)
def test_accuracy_and_loss_are_right_for_soft_labels_and_for_labels_of_any_integer_type(labels):
    data = DataLoader(TensorDataset(IMAGES, labels), batch_size=8)
    model = classifier(CrossEntropy())
    watch = Watch(model)
    runner = trainer(max_epochs=1, num_sanity_val_steps=0)
    runner.fit(model, data, data)
    losses, logits, seen = zip(*watch.steps, strict=True)
    likeliest = torch.cat([y if y.dim() == 1 else y.argmax(dim=1) for y in seen])
    hits = torch.cat(logits).argmax(dim=1) == likeliest
    assert runner.callback_metrics["train/clean_accuracy"] == pytest.approx(float(hits.float().mean()))
    assert runner.callback_metrics["train/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    with torch.no_grad():
        after = model.eval()(IMAGES)
    right = float((after.argmax(dim=1) == LABELS).float().mean())
    truth = labels.float() if labels.dim() == 2 else labels.long()
    assert runner.callback_metrics["val/clean_accuracy"] == pytest.approx(right)
    assert runner.callback_metrics["val/loss"] == pytest.approx(float(F.cross_entropy(after, truth)), rel=1e-5)


def test_validation_metrics_are_those_of_all_images_whatever_the_batches():
    model, data = classifier(), SmallData(batch_size=5)  # the last batch is smaller
    (scalars,) = trainer().validate(model, datamodule=data, verbose=False)
    image = data.datasets["val"].images
    with torch.no_grad():
        logits = model.eval()(image)
    labels = data.datasets["val"].labels
    assert scalars["val/loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert scalars["val/clean_accuracy"] == pytest.approx(float((logits.argmax(dim=1) == labels).float().mean()))


def test_predict_gives_probabilities():
    runner = trainer()
    predicted = torch.cat(runner.predict(classifier(), loader_of_test_images()))
    torch.testing.assert_close(predicted.sum(dim=1), torch.ones(24))


def loader_of_test_images():
    data = SmallData()
    data.setup()
    return data.test_dataloader()


class Rates(Callback):
    def __init__(self):
        self.by_epoch = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.now = set()
        self.by_epoch.append(self.now)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.now.add(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(("interval", "rates_in_an_epoch"), [("epoch", 1), ("step", 5)])
def test_the_scheduler_steps_every_epoch_or_every_step(interval, rates_in_an_epoch):
    rates = Rates()
    schedule = partial(LambdaLR, lr_lambda=lambda count: 0.9**count)
    fit(classifier(CrossEntropy(), lr_scheduler=schedule, lr_interval=interval), rates)
    assert [len(each) for each in rates.by_epoch] == [rates_in_an_epoch] * 2
    assert rates.by_epoch[0] != rates.by_epoch[1]


def test_a_plateau_scheduler_watches_the_validation_loss():
    rates = Rates()
    schedule = partial(ReduceLROnPlateau, patience=0, threshold=1e9, factor=0.5)  # nothing counts as progress
    fit(classifier(CrossEntropy(), lr_scheduler=schedule), rates, max_epochs=4)
    assert min(rates.by_epoch[-1]) < min(rates.by_epoch[0])


def test_the_default_optimiser_is_sgd_with_momentum_and_no_schedule():
    configured = classifier(optimizer=None, lr_scheduler=None).configure_optimizers()
    assert set(configured) == {"optimizer"}
    (group,) = configured["optimizer"].param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 5e-4)


def noise(seed, rank=0, checkpoint=None):
    """One random number of each step of two epochs, as rank ``rank`` draws it."""

    class OnRank(ClassifierModule):
        global_rank = rank

    model = classifier(CrossEntropy())
    model.__class__ = OnRank
    watch = Watch(model)
    seed_everything(seed, verbose=False)
    runner = trainer(max_epochs=2, num_sanity_val_steps=0)
    runner.fit(model, datamodule=SmallData(), ckpt_path=checkpoint)
    return watch.noise


def test_every_step_and_every_rank_has_noise_of_its_own_and_a_seed_repeats_it():
    first = noise(seed=1)
    assert len(set(first)) == len(first) == 10
    assert noise(seed=1) == first
    assert not set(noise(seed=2)) & set(first)
    assert not set(noise(seed=1, rank=1)) & set(first)


def test_a_fine_tuned_model_takes_the_noise_of_its_own_run(tmp_path):
    saved = ModelCheckpoint(tmp_path, save_last=True)
    model = classifier(CrossEntropy())
    seed_everything(1, verbose=False)
    fit(model, saved, max_epochs=1)
    tuned = ClassifierModule.load_from_checkpoint(saved.last_model_path)
    seed_everything(2, verbose=False)
    fit(tuned, max_epochs=1)
    assert (model.seed, tuned.seed) == (1, 2)


def saved_checkpoint(folder, model):
    saved = ModelCheckpoint(folder, save_last=True)
    fit(model, saved, max_epochs=1)
    return saved.last_model_path


@pytest.mark.parametrize("options", [{}, {"channels_last": True}])
def test_a_library_user_loads_a_checkpoint_without_unpickling(tmp_path, options):
    model = classifier(CrossEntropy(), **options)
    path = saved_checkpoint(tmp_path, model)
    loaded = ClassifierModule.load_from_checkpoint(path, weights_only=True)
    torch.testing.assert_close(loaded.eval()(IMAGES), model.eval()(IMAGES))
    plain = (str, int, float, bool, type(None), tuple, list, dict)
    assert all(isinstance(value, plain) for value in loaded.hparams.values())
    assert loaded.hparams.backbone == "mnist_cnn"


def test_a_module_as_backbone_is_given_again_when_loading(tmp_path):
    model = small_net()
    path = saved_checkpoint(tmp_path, model)
    loaded = ClassifierModule.load_from_checkpoint(path, backbone=small_net().backbone)
    torch.testing.assert_close(loaded(IMAGES), model(IMAGES))


def test_weights_start_a_model_but_are_not_asked_for_when_its_checkpoint_is_loaded(tmp_path):
    from safetensors.torch import save_file

    source = classifier()
    file = tmp_path / "start" / "source.safetensors"
    file.parent.mkdir()
    save_file(source.backbone.state_dict(), file)
    torch.manual_seed(5)
    model = classifier(CrossEntropy(), weights=str(file))
    assert torch.equal(model.eval()(IMAGES), source.eval()(IMAGES))
    model.train()
    path = saved_checkpoint(tmp_path / "run", model)
    file.unlink()
    loaded = ClassifierModule.load_from_checkpoint(path)
    torch.testing.assert_close(loaded.eval()(IMAGES), model.eval()(IMAGES))


def test_of_several_sets_of_weights_the_one_asked_for_starts_a_model_in_the_order_of_the_file(tmp_path):
    source = classifier()
    state = {f"{i}.weight": value for i, value in enumerate(source.backbone.net.state_dict().values())}
    torch.save({"model": {}, "state_dict": {"0": torch.zeros(1)}, "ema": state}, tmp_path / "last.pkl")
    model = classifier(CrossEntropy(), weights=str(tmp_path / "last.pkl"), which="ema", match="order")
    assert torch.equal(model.eval()(IMAGES), source.eval()(IMAGES))


def test_pretrained_is_not_a_hyperparameter_that_loading_would_download_again():
    assert not {"pretrained", "weights", "which", "match", "objective", "optimizer", "lr_scheduler"} & set(
        classifier().hparams
    )


def small_net(**options):
    net = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE * SIZE, CLASSES))
    return ClassifierModule(net, num_classes=CLASSES, **options)


@pytest.mark.parametrize(("given", "graphs"), [(True, False), ("reduce-overhead", True)])
def test_a_mode_of_compilation_is_handed_on(given, graphs, monkeypatch):
    options = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, backend, **others: options.append(backend.options))
    small_net(compile=given)
    assert [each.get("triton.cudagraphs", False) for each in options] == [graphs]


def test_a_compiled_model_keeps_its_names_and_gives_the_same_logits():
    plain, compiled = small_net(), small_net(compile=True)
    assert list(plain.state_dict()) == list(compiled.state_dict())
    compiled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(compiled.eval()(IMAGES), plain.eval()(IMAGES))


def test_a_model_in_channels_last_trains_and_is_attacked_alike():
    plain, last = classifier(), classifier(channels_last=True)
    assert last.backbone.state_dict().keys() == plain.backbone.state_dict().keys()
    convolution = next(m for m in last.modules() if isinstance(m, nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    for model in (plain, last):
        model.objective = CrossEntropy()
        torch.manual_seed(0)
        fit(model, max_epochs=1)
    torch.testing.assert_close(last.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-5)
    evaluations = [AttackEvaluation({"pgd": PGD(eps=0.06, steps=3)}) for _ in range(2)]
    for model, evaluation in zip((plain, last), evaluations, strict=True):
        trainer(evaluation).validate(model, datamodule=SmallData(), verbose=False)
    first, second = (evaluation.result for evaluation in evaluations)
    assert first.per_class_clean_correct == second.per_class_clean_correct
    assert first.attacks[0].per_class_correct == second.attacks[0].per_class_correct


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_trains_in_half_precision(precision):
    evaluation = AttackEvaluation({"pgd": PGD(eps=0.06, steps=2)})
    model = classifier(AdversarialTraining(PGD(eps=0.06, steps=2)))
    runner = fit(model, evaluation, precision=precision)
    assert torch.isfinite(runner.callback_metrics["train/loss"])
    assert evaluation.result.samples == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "mnist_cnn"}, "num_classes, in_channels, image_size must be given for backbone 'mnist_cnn'"),
        ({"backbone": nn.Flatten()}, "num_classes is needed"),
        (
            {"backbone": "no_such_net", "num_classes": 3, "in_channels": 1, "image_size": (8, 8)},
            "no_such_net",
        ),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ClassifierModule(**arguments)
