import jsonargparse
import pytest

from lightning_adv.data import CropFlip, ImageDataModule


def parser():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    return parser


def test_every_set_can_be_configured_by_its_name():
    arguments = ["--data=MNISTSubset", "--data.batch_size=32", "--data.val_size=0.2", "--data.augment=CropFlip"]
    config = parser().parse_args([*arguments, "--data.augment.padding=2", "--data.max_train_samples=100"])
    data = parser().instantiate(config).data
    assert (data.batch_size, data.val_size, data.max_samples["train"]) == (32, 0.2, 100)
    assert isinstance(data.augment, CropFlip)
    assert data.augment.padding == 2


def test_sets_with_own_arguments_show_the_common_ones_with_their_defaults():
    for name in ("Faces", "ImageFolder"):
        init_args = parser().parse_args([f"--data={name}"]).data.init_args
        assert (init_args.root, init_args.batch_size, init_args.download) == ("data", 128, False)


def test_an_unknown_argument_is_refused():
    with pytest.raises(jsonargparse.ArgumentError, match="rot"):
        parser().parse_args(["--data=Faces", "--data.rot=data"])
