"""The one factory of backbones."""

from functools import partial

import pytest
import timm
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.models import create_model, list_models


def model_of(name: str, channels: int = 3, size: tuple[int, int] = (32, 32), **options: object) -> nn.Module:
    return create_model(name, num_classes=5, in_channels=channels, image_size=size, **options)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "name",
    [
        *("mnist_cnn", "lenet", "convnet12", "gtsrb_cnn", "test_resnet", "resnet18"),
        *("vit_tiny_patch16_224", "mobilenetv3_small_100", "levit_128s", "test_vit"),
    ],
)
def test_maps_small_images_to_logits_and_back_to_their_pixels(name, channels):
    model = model_of(name, channels)
    x = torch.rand(2, channels, 32, 32, requires_grad=True)
    logits = model.eval()(x)
    assert logits.shape == (2, 5)
    assert model.num_classes == 5
    assert torch.autograd.grad(logits.logsumexp(1).sum(), x)[0].abs().sum() > 0


def test_comes_in_training_mode_with_all_its_parts():
    assert all(module.training for module in model_of("test_resnet").modules())


def test_the_trial_run_draws_no_random_number_and_leaves_no_statistics():
    torch.manual_seed(3)
    torch.nn.init.normal_(torch.empty(1))
    plain = timm.create_model("test_resnet", num_classes=5, img_size=None)
    after_plain = torch.get_rng_state()
    torch.manual_seed(3)
    torch.nn.init.normal_(torch.empty(1))
    model = model_of("test_resnet", small_image_stem=False)
    assert torch.equal(torch.get_rng_state(), after_plain)
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), model.net.state_dict().values(), strict=True)
    )


def test_equal_seeds_give_equal_weights():
    def weights() -> torch.Tensor:
        torch.manual_seed(0)
        return torch.cat(
            [weight.flatten() for weight in model_of("preact_resnet18", backbone_options={"width": 4}).parameters()]
        )

    assert torch.equal(weights(), weights())


def test_backbone_options_reach_the_network():
    assert model_of("mnist_cnn", backbone_options={"width": 5}).net.features[0].out_channels == 5
    assert model_of("vit_tiny_patch16_224", backbone_options={"patch_size": 4}).net.patch_embed.grid_size == (8, 8)


def test_without_figures_pixels_are_passed_on_as_they_are():
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(model_of("lenet").normalize(x), x)


def test_given_figures_are_those_of_the_first_layer():
    model = model_of("lenet", mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    assert model.normalize.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.normalize.std.flatten().tolist() == pytest.approx([0.5, 0.6, 0.7])


@pytest.mark.parametrize(("size", "finer"), [((32, 32), True), ((64, 96), True), ((65, 65), False)])
def test_an_imagenet_resnet_gets_a_small_image_stem_up_to_64_pixels(size, finer):
    assert isinstance(model_of("test_resnet", size=size).net.maxpool, nn.Identity) is finer


def test_the_stem_is_the_users_choice():
    assert not isinstance(model_of("test_resnet", small_image_stem=False).net.maxpool, nn.Identity)
    assert isinstance(model_of("test_resnet", size=(96, 96), small_image_stem=True).net.maxpool, nn.Identity)


def test_a_wish_for_a_stem_that_cannot_be_had_is_refused():
    with pytest.raises(InputError, match="small_image_stem: test_vit has no stem"):
        model_of("test_vit", small_image_stem=True)


def test_an_unknown_name_is_refused_with_those_that_were_meant():
    with pytest.raises(InputError, match=r"no backbone is called 'preact_resnet_18': did you mean preact_resnet18"):
        model_of("preact_resnet_18")
    with pytest.raises(InputError, match=r"did you mean .*resnet50"):
        model_of("ResNet50")
    with pytest.raises(InputError, match=f"own networks: {', '.join(list_models())}"):
        model_of("%%%%")


@pytest.mark.parametrize("name", ["mnist_cnn", "resnet18"])
def test_an_unknown_option_is_refused(name):
    with pytest.raises(InputError, match=f"{name}.*widht"):
        model_of(name, backbone_options={"widht": 8})


@pytest.mark.parametrize("option", ["checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"])
def test_files_are_not_named_among_the_options_of_a_network(option, tmp_path):
    with pytest.raises(InputError, match=f"must not hold {option}: .* for weights of a file there is load_weights"):
        model_of("lenet", backbone_options={option: str(tmp_path / "weights.pth")})


@pytest.mark.parametrize("option", ["num_classes", "in_chans", "img_size"])
def test_what_the_data_decide_is_no_backbone_option(option):
    with pytest.raises(InputError, match=f"must not hold {option}"):
        model_of("lenet", backbone_options={option: 7})


@pytest.mark.parametrize(
    ("name", "size"),
    [("lenet", (8, 8)), ("inception_v3", (32, 32)), ("halonet26t", (40, 40)), ("densenet_cifar", (3, 3))],
)
def test_images_too_small_for_the_network_are_refused(name, size):
    with pytest.raises(InputError, match=rf"{name}.* {size[0]} x {size[1]}"):
        model_of(name, size=size)


def test_patches_that_do_not_tile_the_image_are_refused():
    with pytest.raises(InputError, match=r"patches of \(16, 16\) pixels, which do not tile \(28, 28\).*patch_size"):
        model_of("vit_tiny_patch16_224", channels=1, size=(28, 28))
    model_of("vit_tiny_patch16_224", channels=1, size=(28, 28), backbone_options={"patch_size": 7})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"in_channels": 0}, "in_channels"),
        ({"image_size": (0, 32)}, "image_size"),
        ({"mean": [0.5], "std": [0.5]}, "need 3 numbers each"),
        ({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.0]}, "positive"),
        ({"pretrained": True}, "no published weights"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("lenet", **{"num_classes": 5, "in_channels": 3, "image_size": (32, 32), **arguments})


def test_a_network_that_gives_no_logits_is_refused():
    with pytest.raises(InputError, match="test_vit is no classifier of images"):
        model_of("test_vit", backbone_options={"global_pool": ""})


def test_weights_that_timm_does_not_have_are_refused():
    with pytest.raises(InputError, match=r"resnet18 has no weights called 'no_such_tag': timm has .*resnet18.a1_in1k"):
        model_of("resnet18.no_such_tag", pretrained=True)


def test_pretrained_weights_bring_their_own_normalisation_and_keep_their_stem(tmp_path, monkeypatch):
    torch.manual_seed(0)
    trained = timm.create_model("test_resnet", num_classes=5)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    local = {"file": str(tmp_path / "weights.pth"), "num_classes": 5}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, pretrained_cfg_overlay=local))
    model = model_of("test_resnet", pretrained=True)
    assert model.normalize.mean.flatten().tolist() == pytest.approx(trained.pretrained_cfg["mean"])
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model.eval()(x), trained.eval()(model.normalize(x)))
    grey = model_of("test_resnet", channels=1, pretrained=True)
    assert grey.normalize.mean.numel() == 1
    chosen = model_of("test_resnet", pretrained=True, mean=[0.1] * 3, std=[0.2] * 3)
    assert chosen.normalize.std.flatten().tolist() == pytest.approx([0.2] * 3)


def test_with_the_factory_timm_knows_the_networks():
    assert isinstance(timm.create_model("lenet", num_classes=3), nn.Module)
