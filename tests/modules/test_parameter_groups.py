"""Weight decay that spares some weights, and rates that fall from layer to layer."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

from lightning_adv.errors import InputError
from lightning_adv.models import create_model
from lightning_adv.modules import WarmUp
from lightning_adv.objectives import CrossEntropy
from tests.callbacks.recipes import classifier

ADAMW = partial(torch.optim.AdamW, lr=0.1, weight_decay=0.05)


def by_weight(module, key):
    """What the optimiser's groups say of each weight, by its name in the network."""
    optimizer = module.configure_optimizers()["optimizer"]
    said = {id(weight): group[key] for group in optimizer.param_groups for weight in group["params"]}
    return {name: said[id(weight)] for name, weight in module.backbone.net.named_parameters()}


class Odd(nn.Module):
    """A normalisation that keeps its weights in another shape, and one under a name that says nothing."""

    num_classes = 4

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)
        self.two.weight = nn.Parameter(torch.ones(1, 4))
        self.position, self.head = nn.Parameter(torch.zeros(1, 2, 2)), nn.Linear(4, 4)

    def no_weight_decay(self):
        return {"position"}


def test_weight_decay_spares_normalisation_biases_and_what_the_network_names():
    module = classifier(CrossEntropy(), backbone=Odd(), backbone_options=None, optimizer=ADAMW, decay="weights")
    decay = by_weight(module, "weight_decay")
    assert {name for name, value in decay.items() if value} == {"one.weight", "head.weight"}
    assert set(decay.values()) == {0.0, 0.05}
    plain = by_weight(
        classifier(CrossEntropy(), backbone=Odd(), backbone_options=None, optimizer=ADAMW), "weight_decay"
    )
    assert set(plain.values()) == {0.05}


@pytest.mark.parametrize("name", ["preact_resnet18", "dm_preact_resnet18"])
def test_of_a_residual_network_convolutions_and_the_head_alone_are_decayed(name):
    decay = by_weight(
        classifier(CrossEntropy(), backbone=name, backbone_options={"width": 4}, optimizer=ADAMW, decay="weights"),
        "weight_decay",
    )
    net = create_model(name, num_classes=4, in_channels=3, image_size=(8, 8), backbone_options={"width": 4}).net
    many = {f"{name}.weight" for name, each in net.named_modules() if isinstance(each, (nn.Conv2d, nn.Linear))}
    assert {name for name, value in decay.items() if value} == many


PREACT = {"backbone": "preact_resnet18", "backbone_options": {"width": 4}}
VIT = {"backbone": "vit_tiny_patch16_224", "image_size": (32, 32), "backbone_options": {"depth": 3, "embed_dim": 12}}


@pytest.mark.parametrize("schedule", [None, WarmUp, partial(MultiStepLR, milestones=[1])])
def test_the_rate_of_a_transformer_falls_from_the_head_down(schedule):
    options = VIT | {"optimizer": ADAMW, "lr_scheduler": schedule, "layer_decay": 0.5, "decay": "weights"}
    module = classifier(CrossEntropy(), **options)
    rates, decay = by_weight(module, "lr"), by_weight(module, "weight_decay")
    highest = rates["head.weight"]
    assert highest == pytest.approx(0.1 if schedule is not WarmUp else 0.004)
    for place, name in enumerate(["blocks.2.mlp.fc1.weight", "blocks.1.mlp.fc1.weight", "blocks.0.mlp.fc1.weight"], 1):
        assert rates[name] == pytest.approx(highest * 0.5**place)
    assert rates["patch_embed.proj.weight"] == rates["pos_embed"] == pytest.approx(highest * 0.5**4)
    assert decay["pos_embed"] == decay["cls_token"] == decay["norm.weight"] == 0
    assert decay["patch_embed.proj.weight"] == 0.05


def test_the_blocks_of_ones_own_networks_are_layers_and_a_network_without_layers_is_refused():
    module = classifier(CrossEntropy(), **PREACT, optimizer=ADAMW, layer_decay=0.5)
    rates = by_weight(module, "lr")
    in_order = [rates[f"features.{stage}.{block}.conv1.weight"] for stage in range(1, 5) for block in range(2)]
    assert all(later == pytest.approx(2 * earlier) for earlier, later in itertools.pairwise(in_order))
    assert rates["features.0.weight"] == pytest.approx(in_order[0] / 2)
    assert rates["fc.weight"] == 0.1
    assert rates["features.3.1.bn2.bias"] == rates["features.3.1.conv1.weight"]
    module = classifier(CrossEntropy(), backbone=Odd(), backbone_options=None, optimizer=ADAMW, layer_decay=0.5)
    with pytest.raises(InputError, match="timm knows no layers of Odd"):
        module.configure_optimizers()


def test_a_schedule_with_one_rate_for_all_layers_is_refused():
    one_cycle = partial(OneCycleLR, max_lr=0.1, total_steps=10)
    module = classifier(CrossEntropy(), **VIT, optimizer=ADAMW, lr_scheduler=one_cycle, layer_decay=0.5)
    with pytest.raises(InputError, match="layer_decay gives each layer its own rate, and this schedule sets one"):
        module.configure_optimizers()
    for wrong in ({"layer_decay": 0.0}, {"decay": "biases"}):
        with pytest.raises(InputError, match=r"decay must be all or weights, layer_decay lie in \(0, 1\]"):
            classifier(CrossEntropy(), **wrong)
