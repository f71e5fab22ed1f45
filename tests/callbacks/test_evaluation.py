import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, WeightAveraging
from torch.utils.data import DataLoader

from lightning_adv.attacks import FGSM
from lightning_adv.callbacks import AttackEvaluation, Report
from lightning_adv.callbacks.evaluation import scalars_of_epoch
from lightning_adv.errors import InputError
from tests.callbacks.strangers import PlainModule, images, trainer

KEY = "val/fgsm/robust_accuracy"


def evaluation(**options):
    return AttackEvaluation({"fgsm": FGSM(eps=0.06)}, **options)


def fit(*callbacks, model=None, **options):
    runner = trainer(*callbacks, **{"num_sanity_val_steps": 0} | options)
    loaders = DataLoader(images(32), batch_size=8), DataLoader(images(16), batch_size=8)
    runner.fit(model or PlainModule(), *loaders)
    return runner


def epochs(each):
    return [epoch for epoch, _ in each.history[KEY]]


def test_runs_every_n_epochs_and_after_the_last():
    every, third = evaluation(), evaluation(every_n_epochs=3, name="third")
    fit(every, third, max_epochs=5)
    assert epochs(every) == [1, 2, 3, 4, 5]
    assert [epoch for epoch, _ in third.history[KEY.replace("val/", "val/third/")]] == [3, 5]


def test_a_run_that_ends_by_its_number_of_steps_has_a_last_epoch_too():
    third = evaluation(every_n_epochs=3)
    fit(third, max_epochs=-1, max_steps=8)  # four steps an epoch
    assert epochs(third) == [2]


def test_the_sanity_check_does_not_evaluate():
    each = evaluation()
    fit(each, max_epochs=1, num_sanity_val_steps=2)
    assert epochs(each) == [1]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"history": 7},
        {"history": {KEY: 7}},
        {"history": {KEY: []}},
        {"history": {KEY: "ab"}},
        {"history": {KEY: [[1, 0.5], [2]]}},
        {"history": {KEY: [[1, "x"]]}},
        {"history": {KEY: [[0.5, 0.5]]}},
        {"history": {7: [[1, 0.5]]}},
    ],
)
@pytest.mark.parametrize("callback", [evaluation(), Report()], ids=["evaluation", "report"])
def test_a_history_that_is_none_is_refused_before_anything_is_evaluated(callback, state):
    callback.load_state_dict({"history": {KEY: [[1, 0.5], (2, 1)]}})
    with pytest.raises(InputError, match="keep no history"):
        callback.load_state_dict(state)
    assert callback.history == {KEY: [[1, 0.5], (2, 1)]}


class CannotWork(AttackEvaluation):
    """Refuses what it sees."""

    def check(self, model, images):
        raise InputError(f"{images.first().image.shape[1]} channels will not do")


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_what_an_evaluation_would_refuse_is_refused_before_the_first_batch_of_any_stage(stage):
    class TooLate(Callback):
        on_train_batch_start = on_test_batch_start = lambda *_: pytest.fail("a batch had begun")

        def on_validation_batch_start(self, trainer, *_):
            assert trainer.sanity_checking, "a batch had begun"

    runner = trainer(evaluation(), CannotWork({"fgsm": FGSM(eps=0.06)}, name="second"), TooLate(), max_epochs=1)
    loader = DataLoader(images(16), batch_size=8)
    with pytest.raises(InputError, match="3 channels will not do"):
        getattr(runner, stage)(PlainModule(), *[loader] * (2 if stage == "fit" else 1))


def test_pictures_are_logged_after_the_last_epoch_unless_asked_for(tmp_path):
    from pytorch_lightning.loggers import CSVLogger

    expected = {"last": {4 * 3}, "always": {4, 8, 12}, "never": set()}
    for when, steps in expected.items():
        logger = CSVLogger(tmp_path, name=when)
        fit(evaluation(pictures=when), max_epochs=3, logger=logger, log_every_n_steps=1)
        assert {int(path.stem[-6:]) for path in tmp_path.glob(f"{when}/**/*.png")} == steps


def test_pictures_are_logged_when_training_stops_early(tmp_path):
    from pytorch_lightning.loggers import CSVLogger

    logger = CSVLogger(tmp_path)
    stop = EarlyStopping(KEY, stopping_threshold=-1.0, mode="max")
    runner = fit(evaluation(), stop, max_epochs=9, logger=logger, log_every_n_steps=1)
    assert runner.current_epoch == 1
    assert list(tmp_path.glob("**/*.png"))


def test_a_fit_without_validation_says_that_nothing_will_be_evaluated():
    runner = trainer(evaluation(), max_epochs=1, limit_val_batches=0)
    with pytest.warns(UserWarning, match="runs after validation, and this fit has none"):
        runner.fit(PlainModule(), DataLoader(images(8)), DataLoader(images(8)))


def test_evaluations_come_before_weight_averaging_and_checkpoints_stay_last():
    averaging, saving, each = WeightAveraging(), Checkpoint(), evaluation()
    runner = trainer(averaging, saving, each)
    each.setup(runner, PlainModule(), "fit")
    order = [callback for callback in runner.callbacks if callback in (averaging, saving, each)]
    assert order == [each, averaging, saving]


class Collect(Callback):
    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append(scalars_of_epoch(trainer))


class Counting(PlainModule):
    """Logs its epoch in training and in validation."""

    def training_step(self, batch, batch_idx):
        self.log("train/epoch", float(self.current_epoch + 1), on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.log("val/epoch", float(self.current_epoch + 1))


def test_the_scalars_of_an_epoch_are_those_measured_in_it():
    collect = Collect()
    fit(evaluation(every_n_epochs=4), collect, model=Counting(), max_epochs=4, check_val_every_n_epoch=2)
    for epoch, scalars in enumerate(collect.epochs, start=1):
        assert scalars["train/epoch"] == epoch
        assert scalars.get("val/epoch") == (epoch if epoch % 2 == 0 else None)
        assert (KEY in scalars) == (epoch == 4)
