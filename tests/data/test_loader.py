import shutil

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_adv.data import CropFlip, ImageLoader, InMemoryImages, TrainBatches
from lightning_adv.errors import InputError

from .builders import MarkedData, NotingModel, marked_images, quiet_trainer

# A resumed run writes into the folder of the run that it continues.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


def loader(num_workers=0, batch_size=4, seed=0):
    data = InMemoryImages(marked_images(22), torch.arange(22) % 4)
    return ImageLoader(data, TrainBatches(22, batch_size, seed), num_workers)


def indices(batches):
    return [batch.index.tolist() for batch in batches]


def test_the_loader_yields_the_sampler_s_batches():
    assert indices(loader()) == list(TrainBatches(22, 4))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loaded_state_continues_the_same_permutation(num_workers):
    first = loader(num_workers)
    first.sampler.set_epoch(3)
    whole = indices(first)
    interrupted = iter(first)
    head = indices(next(interrupted) for _ in range(2))
    state = first.state_dict()
    second = loader(num_workers)
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert len(second) == len(whole)
    assert head + indices(second) == whole
    assert indices(second) == whole


def test_a_state_from_the_end_of_an_epoch_starts_a_whole_one():
    first = loader()
    list(first)
    second = loader()
    first.sampler.set_epoch(1)
    for told in (0, 1, 2):  # whatever the caller counts
        second.load_state_dict(first.state_dict() | {"epoch": 0, "told_epoch": 0})
        second.sampler.set_epoch(told)
        assert indices(second) == list(first.sampler)


@pytest.mark.parametrize(
    ("count", "classes", "said"),
    [(26, 4, "trained on 22 images, and this one has 26"), (22, 5, "22 images with other labels, and this one has 22")],
    ids=["more images", "other labels"],
)
def test_a_run_does_not_go_on_with_other_images(count, classes, said):
    first = loader()
    next(iter(first))
    data = InMemoryImages(marked_images(count), torch.arange(count) % classes)
    with pytest.raises(InputError, match=said):
        ImageLoader(data, TrainBatches(count, 4, 0)).load_state_dict(first.state_dict())


def test_a_state_that_tells_nothing_of_its_images_is_taken():
    first = loader()
    next(iter(first))
    old = {key: value for key, value in first.state_dict().items() if key not in ("images", "labels")}
    loader().load_state_dict(old)


def test_a_changed_global_batch_size_is_reported_when_resuming():
    first = loader()
    next(iter(first))
    with pytest.warns(UserWarning, match="4 images in a batch of all processes, now it is 5"):
        loader(batch_size=5).load_state_dict(first.state_dict())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_iterating_leaves_the_global_generator_alone(num_workers):
    before = torch.get_rng_state()
    list(loader(num_workers))
    assert torch.equal(torch.get_rng_state(), before)


def fit(folder, num_workers=0, ckpt_path=None, checkpoint=None, limits=None, validate=True):
    model = NotingModel()
    if not validate:
        model.validation_step = None
    data = MarkedData(num_workers=num_workers, augment=CropFlip(padding=1))  # 22 images to train on: 5 batches
    callbacks = [ModelCheckpoint(folder, "{epoch}-{step}", save_top_k=-1, **(checkpoint or {}))]
    limits = limits or {"max_epochs": 3}
    quiet_trainer(folder, callbacks=callbacks, num_sanity_val_steps=0, **limits).fit(
        model, data, ckpt_path=ckpt_path, weights_only=True
    )
    return model


def resumes_exactly(tmp_path, checkpoints, num_workers=0, limits=None, steps=None):
    """Resume from every checkpoint that an uninterrupted run wrote, and compare what was trained on."""
    torch.manual_seed(0)
    whole = fit(tmp_path / "whole", num_workers, checkpoint=checkpoints, limits=limits)
    written = sorted((tmp_path / "whole").glob("*.ckpt"))
    if steps is not None:
        written = [path for path in written if int(path.stem.split("step=")[1]) in steps]
    assert written
    for path in written:
        step = int(path.stem.split("step=")[1])
        resumed = fit(tmp_path / "whole", num_workers, path, checkpoints, limits)
        assert resumed.seen == whole.seen[step:], path.name
        assert torch.equal(resumed.layer.weight, whole.layer.weight), path.name
    return whole


def test_a_run_resumed_at_any_step_trains_on_what_the_uninterrupted_one_did(tmp_path):
    whole = resumes_exactly(tmp_path, {"every_n_train_steps": 1})
    assert len(whole.seen) == 15
    assert len({fingerprint for _, _, fingerprint in whole.seen}) == 15


def test_a_run_resumed_at_the_end_of_an_epoch_trains_on_what_the_uninterrupted_one_did(tmp_path):
    resumes_exactly(tmp_path, {"every_n_epochs": 1, "save_on_train_epoch_end": True})


def test_a_run_resumed_after_validation_trains_on_what_the_uninterrupted_one_did(tmp_path):
    resumes_exactly(tmp_path, {"every_n_epochs": 1, "save_on_train_epoch_end": False})


def test_a_run_limited_by_steps_resumes_exactly(tmp_path):
    resumes_exactly(tmp_path, {"every_n_train_steps": 1}, limits={"max_steps": 13})


def test_a_run_limited_by_steps_resumes_exactly_at_the_end_of_an_epoch(tmp_path):
    resumes_exactly(tmp_path, {"every_n_epochs": 1, "save_on_train_epoch_end": True}, limits={"max_steps": 13})


def test_a_run_limited_by_steps_resumes_exactly_after_validation(tmp_path):
    resumes_exactly(tmp_path, {"every_n_epochs": 1, "save_on_train_epoch_end": False}, limits={"max_steps": 13})


def test_a_run_that_was_resumed_at_an_epoch_s_end_resumes_exactly_once_more(tmp_path):
    torch.manual_seed(0)
    whole = fit(tmp_path, checkpoint={"every_n_epochs": 1, "save_on_train_epoch_end": True}, limits={"max_steps": 13})
    (epoch_end,) = tmp_path.glob("epoch=0-*.ckpt")
    each_step = {"every_n_train_steps": 1}
    (tmp_path / "again").mkdir()
    copy = shutil.copy(epoch_end, tmp_path / "again")
    fit_options = {"checkpoint": each_step, "limits": {"max_steps": 13}}
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint|dirpath has changed"):
        fit(tmp_path / "again", ckpt_path=copy, **fit_options)
    written = {int(path.stem.split("step=")[1]): path for path in (tmp_path / "again").glob("epoch=[12]-*.ckpt")}
    assert sorted(written) == list(range(6, 14))
    for step, path in written.items():
        resumed = fit(tmp_path / "again", ckpt_path=path, **fit_options)
        # Lightning's own number of the epoch, the first entry, is one too small here.
        assert [entry[1:] for entry in resumed.seen] == [entry[1:] for entry in whole.seen[step:]], path.name


def test_a_run_with_fewer_batches_an_epoch_than_there_are_resumes_exactly(tmp_path):
    limits = {"max_epochs": 3, "limit_train_batches": 3}
    resumes_exactly(tmp_path, {"every_n_train_steps": 1}, limits=limits)


def test_a_run_with_validation_in_mid_epoch_resumes_exactly(tmp_path):
    limits = {"max_epochs": 2, "val_check_interval": 2}
    resumes_exactly(tmp_path, {"every_n_train_steps": 1}, limits=limits)


def test_a_run_with_accumulated_gradients_resumes_exactly_at_the_end_of_an_epoch(tmp_path):
    torch.manual_seed(0)
    limits = {"max_epochs": 3, "accumulate_grad_batches": 2}
    whole = fit(tmp_path / "whole", checkpoint={"save_on_train_epoch_end": True}, limits=limits)
    (first, *_) = sorted((tmp_path / "whole").glob("epoch=0*.ckpt"))
    resumed = fit(tmp_path / "whole", ckpt_path=first, checkpoint={"save_on_train_epoch_end": True}, limits=limits)
    assert resumed.seen == whole.seen[5:]


def test_a_run_with_loading_processes_resumes_exactly(tmp_path):
    resumes_exactly(tmp_path, {"every_n_train_steps": 1}, num_workers=2, limits={"max_epochs": 2}, steps={3, 5, 7})


def test_a_run_with_loading_processes_resumes_exactly_at_the_end_of_an_epoch(tmp_path):
    resumes_exactly(tmp_path, {"save_on_train_epoch_end": True}, num_workers=2, limits={"max_epochs": 2}, steps={5})


def test_the_state_in_a_checkpoint_counts_the_batches_trained_on(tmp_path):
    fit(tmp_path, checkpoint={"every_n_train_steps": 3}, limits={"max_epochs": 1})
    (path,) = tmp_path.glob("*.ckpt")
    state = torch.load(path, weights_only=True)["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    (place,) = state
    assert place | {"epoch": 0, "told_epoch": 0, "batches": 3, "global_batch_size": 4} == place
