import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BlipForConditionalGeneration, BlipProcessor

from lightning_adv.errors import InputError
from lightning_adv.purifiers import Captions, ConstantPrompt, PredictedClass
from lightning_adv.purifiers.caption_log import CaptionLog
from tests.purifiers.language import SIZE, write_captioner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("captioner") / "model")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the captioning model was asked about."""
    asked: list[int] = []
    generate = BlipForConditionalGeneration.generate

    def watched(self: BlipForConditionalGeneration, pixel_values: torch.Tensor, **options: object) -> torch.Tensor:
        asked.append(len(pixel_values))
        return generate(self, pixel_values, **options)

    monkeypatch.setattr(BlipForConditionalGeneration, "generate", watched)
    return asked


def test_a_caption_is_what_transformers_says_one_image_at_a_time(folder, images):
    model, processor = BlipForConditionalGeneration.from_pretrained(folder), BlipProcessor.from_pretrained(folder)
    expected = []
    for image in images:
        inputs = processor(images=image[None], return_tensors="pt", do_rescale=False)
        tokens = model.eval().generate(**inputs, num_beams=3, min_length=5, max_length=20, do_sample=False)
        expected.append(processor.decode(tokens[0], skip_special_tokens=True))
    assert Captions(str(folder))(images) == expected
    assert len(set(expected)) > 1


def test_a_template_and_a_prefix_go_around_the_caption(folder, images):
    told = Captions(str(folder), prefix="a photo", template="picture: {}.")(images)
    assert all(text.startswith("picture: ") and text.endswith(".") for text in told)
    assert not any("a photo" in text[:16] for text in told)


def test_equal_images_are_described_once_and_kept_ones_never_again(folder, images, described, tmp_path):
    twice = torch.cat([images, images[:3]])
    captions = Captions(str(folder), cache=str(tmp_path))
    first = captions(twice, keep=True)
    assert described == [6]
    assert first[:3] == first[6:]
    again = Captions(str(folder), cache=str(tmp_path))  # another process
    assert again(images[[4, 1]], keep=True) == [first[4], first[1]]
    assert described == [6]
    again(1 - images, keep=False)
    assert described == [6, 6]
    again(1 - images, keep=False)
    assert described == [6, 6, 6], "what is not kept is described again"


def test_other_settings_do_not_read_each_others_captions(folder, images, described, tmp_path):
    Captions(str(folder), cache=str(tmp_path))(images, keep=True)
    Captions(str(folder), cache=str(tmp_path), beams=1)(images, keep=True)
    assert described == [6, 6]


def test_a_line_that_a_kill_tore_costs_that_line_alone(tmp_path):
    log = CaptionLog(tmp_path / "captions.jsonl")
    log.add({"a": "a cat", "b": "a dog"})
    torn = log.file.read_bytes()[:-6]
    log.file.write_bytes(torn)
    resumed = CaptionLog(log.file)
    assert (resumed.get("a"), resumed.get("b")) == ("a cat", None)
    resumed.add({"b": "a dog"})
    assert CaptionLog(log.file).get("b") == "a dog"


def test_a_grey_image_is_described_and_other_channels_are_refused(folder):
    assert len(Captions(str(folder))(torch.rand(2, 1, *SIZE))) == 2
    with pytest.raises(InputError, match="grey or RGB images, got 4 channels"):
        Captions(str(folder))(torch.rand(1, 4, *SIZE))


def test_folders_without_weights_or_words_are_refused(folder, tmp_path):
    pickled, mute = tmp_path / "pickled", tmp_path / "mute"
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"found only pytorch_model\.bin, which is a pickle"):
        Captions(str(pickled))
    mute.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, mute)
    with pytest.raises(InputError, match="mute does not load as a BlipProcessor"):
        Captions(str(mute))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: Captions(folder, template="no place"), "where the caption goes"),
        (lambda folder: Captions(folder, beams=0), "beams must be at least 1"),
        (lambda folder: Captions(folder, min_length=30), "min_length at most max_length"),
        (lambda folder: PredictedClass(nn.Identity(), ["cat"], "no place"), "where the class goes"),
        (lambda folder: PredictedClass(nn.Flatten(), ["cat"])(torch.rand(1, 1, 2, 2)), "has 4 classes, class_names 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, make, message):
    with pytest.raises(InputError, match=message):
        make(str(folder))


def test_a_predicted_class_leaves_its_classifier_as_it_was():
    classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    PredictedClass(classifier, ["cat", "dog"])(torch.rand(3, 1, 2, 2))
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_a_constant_prompt_says_the_same_of_all():
    assert ConstantPrompt("seven")(torch.rand(2, 1, 2, 2)) == ["seven", "seven"]
