"""ONNX files: the answers of the network that was exported, no gradient, and no path that leads out of the folder."""

import copy

import pytest
import torch
from torch import Tensor, nn

from experiments.open_models.hub import exported
from lightning_adv.asking import logits_of
from lightning_adv.attacks import PGD, Square
from lightning_adv.errors import InputError
from lightning_adv.models import open_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")

OF_THE_DATA = {"num_classes": 4, "in_channels": 3, "image_size": (8, 8)}


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()


def images(count: int = 5) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "form", [{}, {"batch": 2}, {"batch": 1}, {"channels_last": True}, {"beside": "weights.data"}], ids=str
)
def test_the_answers_are_those_of_the_network_that_was_exported(form, tmp_path):
    net = linear()
    model = open_model(exported(net, tmp_path / "net.onnx", **form), **OF_THE_DATA)
    assert (logits_of(model, images()) - net(images())).abs().max() < 1e-5
    assert (copy.deepcopy(model)(images()) - net(images())).abs().max() < 1e-5


def test_an_attack_without_gradients_finds_what_it_finds_on_the_network_itself(tmp_path):
    net = linear()
    model = open_model(exported(net, tmp_path / "net.onnx"), **OF_THE_DATA)
    x, y = images(), net(images()).argmax(dim=1)
    square = Square(eps=0.2, queries=30, seed=3)
    assert (square(model, x, y) - square(net, x, y)).abs().max() < 1e-5


def test_an_attack_by_gradients_is_refused_in_a_line_that_names_square(tmp_path):
    model = open_model(exported(linear(), tmp_path / "net.onnx"), **OF_THE_DATA)
    with pytest.raises(InputError, match=r"gives no gradient.* Square") as refusal:
        PGD(eps=0.1, steps=2)(model, images(), torch.zeros(5, dtype=torch.long))
    assert "\n" not in str(refusal.value)


def test_two_files_are_told_from_each_other_by_their_check_sums(tmp_path):
    other = linear()
    with torch.no_grad():
        other[1].bias += 1
    models = [
        open_model(exported(net, tmp_path / f"{name}.onnx"), **OF_THE_DATA)
        for name, net in (("a", linear()), ("b", linear()), ("c", other))
    ]
    sums = [bytes(model.state_dict()["digest"].tolist()) for model in models]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize("place", ["../weights.data", "{tmp}/weights.data", "inner/../../weights.data", "", "."])
@pytest.mark.parametrize("hidden", ["in the open", "in a branch", "in a function"])
def test_weights_outside_of_the_folder_are_refused(place, hidden, tmp_path):
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "weights.data").write_bytes(bytes(4 * 192 * 4))
    path = exported(linear(), folder / "net.onnx", beside=place.replace("{tmp}", str(tmp_path)))
    model = onnx.load_from_string(path.read_bytes())
    if hidden != "in the open":
        weight = model.graph.initializer[0]
        constant = onnx.helper.make_node("Constant", [], ["w"])
        constant.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=weight))
        branch = onnx.helper.make_graph([constant], "branch", [], [])
        node = onnx.helper.make_node("If", ["flat"], ["v"], then_branch=branch, else_branch=branch)
        if hidden == "in a branch":
            model.graph.node.append(node)
        else:
            model.functions.append(onnx.helper.make_function("mine", "F", [], ["w"], [constant], model.opset_import))
        del model.graph.initializer[0]
        path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"is refused: it looks for weights in|is not beside it"):
        open_model(path, **OF_THE_DATA)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"no graph at all", "is no ONNX file"), (b"", "cannot be run|is no ONNX file"), (None, "no file ")],
)
def test_what_is_no_onnx_file_is_a_line(content, told, tmp_path):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=told) as refusal:
        open_model(path, **OF_THE_DATA)
    assert "\n" not in str(refusal.value)


def test_a_network_that_does_not_fit_the_data_is_a_line(tmp_path):
    path = exported(linear(), tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"one image gives \(1, 4\), not logits \(1, 7\)"):
        open_model(path, **{**OF_THE_DATA, "num_classes": 7})
    with pytest.raises(InputError, match="cannot take images of 3 x 9 x 9"):
        open_model(path, **{**OF_THE_DATA, "image_size": (9, 9)})


def test_without_onnxruntime_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(InputError, match=r"pip install 'lightning-adv\[onnx\]'"):
        open_model(tmp_path / "net.onnx", **OF_THE_DATA)
