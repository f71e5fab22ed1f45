"""timm's registry with signatures that say no."""

import inspect

import pytest
import timm

from lightning_adv.errors import InputError
from lightning_adv.models import list_models
from lightning_adv.models.registry import own_models


@pytest.mark.parametrize("name", list_models())
def test_timm_knows_the_network_by_its_name(name):
    assert timm.is_model(name)
    assert name in timm.list_models()


@pytest.mark.parametrize("name", list_models())
def test_every_option_is_a_typed_keyword_with_a_default(name):
    for parameter in inspect.signature(own_models()[name]).parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is not inspect.Parameter.empty
        assert parameter.annotation is not inspect.Parameter.empty


def test_an_unknown_option_is_refused_with_the_one_that_was_meant():
    with pytest.raises(InputError, match=r"mnist_cnn has no option 'widht': did you mean width\?"):
        timm.create_model("mnist_cnn", widht=8)


def test_an_option_like_no_other_is_refused_with_the_list():
    with pytest.raises(InputError, match="has no option 'zzz': it takes num_classes, in_chans"):
        timm.create_model("lenet", zzz=8)


@pytest.mark.parametrize("options", [{"pretrained": True}, {"pretrained_cfg": "a1_in1k"}])
def test_pretrained_weights_that_do_not_exist_are_refused(options):
    with pytest.raises(InputError, match="lenet has no published weights"):
        timm.create_model("lenet", **options)


@pytest.mark.parametrize(
    "options", [{"num_classes": -1}, {"in_chans": 0}, {"width": 0}, {"img_size": (28, 0)}, {"hidden": -3}]
)
def test_a_count_that_is_not_positive_is_refused(options):
    with pytest.raises(InputError, match=f"mnist_cnn: {next(iter(options))} must be at least"):
        timm.create_model("mnist_cnn", **options)
