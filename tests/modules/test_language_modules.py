"""The networks of language-guided purification are trained, exported and read by the libraries they are made for."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from torch.utils.data import DataLoader, TensorDataset
from transformers import BlipForConditionalGeneration, BlipProcessor

from lightning_adv.errors import InputError
from lightning_adv.modules import CaptionerModule, LatentDiffusionModule
from lightning_adv.modules.templates import CaptionTemplates, bert_tokenizer, clip_tokenizer
from lightning_adv.purifiers import Captions, ConstantPrompt, LanguageGuidedDiffusion
from tests.callbacks.recipes import EveryCheckpoint, SmallData
from tests.callbacks.strangers import CHANNELS, CLASSES, SIZE, quarter, trainer
from tests.cli.commands import FEW_IMAGES, run

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:GPU available", "ignore:.*number of training batches"
)
SHAPE = {"in_channels": CHANNELS, "image_size": (SIZE, SIZE), "class_names": ["north west", "east", "south", "far"]}
TEMPLATES = ["a photo of the {}", "the {}"]
SMALL = {
    LatentDiffusionModule: {"autoencoder_channels": (8, 16), "channels": (16,), "text_width": 16, "ema": 0.8},
    CaptionerModule: {"width": 32, "layers": 1},
}


def small(kind: type, **options: object) -> LatentDiffusionModule | CaptionerModule:
    torch.manual_seed(0)
    return kind(templates=TEMPLATES, **SHAPE, **(SMALL[kind] | {"lr": 3e-3} | options))


def images(count: int, seed: int = 0) -> TensorDataset:
    """Images whose brighter quarter tells the class, plainly."""
    label = torch.arange(count) % CLASSES
    noise = 0.3 * torch.rand(count, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(noise + 0.6 * quarter(label), label)


def fitted(module: LatentDiffusionModule | CaptionerModule, *callbacks: Callback, **options: object) -> Trainer:
    train, val = (DataLoader(images(count), batch_size=16) for count in (128, 32))
    runner = trainer(*callbacks, **options)
    runner.fit(module, train, val)
    return runner


def test_a_latent_diffusion_model_is_trained_in_one_run_and_read_by_diffusers(tmp_path):
    export = tmp_path / "exported"
    module = small(LatentDiffusionModule, autoencoder_epochs=5, export=str(export))
    loader = DataLoader(images(32), batch_size=16)
    before = trainer().validate(module, loader, verbose=False)[0]["val/error"]
    metrics = fitted(module, max_epochs=10).callback_metrics
    assert float(metrics["val/error"]) < 0.6 * before
    assert float(metrics["val/loss"]) < 0.8, "noise of variance 1 is predicted better than by nothing"
    assert not [file for file in export.rglob("*") if file.suffix in (".bin", ".ckpt", ".pt")]
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(str(export), safety_checker=None, low_cpu_mem_usage=False)
    assert pipe.vae.config.scaling_factor == pytest.approx(float(module.scale))
    latents = pipe.vae.encode(2 * images(64).tensors[0] - 1).latent_dist.mean.detach()
    assert float(latents.std() * pipe.vae.config.scaling_factor) == pytest.approx(1, rel=0.3)
    pipe.set_progress_bar_config(disable=True)
    x = images(4).tensors[0]
    assert pipe(["a photo of the east"] * 4, image=x, strength=0.2, output_type="pt").images.shape == x.shape
    purified = LanguageGuidedDiffusion(str(export), ConstantPrompt("the east"), strength=0.1, steps=2)(x)
    assert float((purified - x).abs().mean()) < float((purified - x.flip(0)).abs().mean())


class Stages(Callback):
    """Weights of the two parts before and after every epoch."""

    def __init__(self) -> None:
        self.weights: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_train_start(self, trainer: Trainer, module: LatentDiffusionModule) -> None:
        self.note(module)

    def on_train_epoch_end(self, trainer: Trainer, module: LatentDiffusionModule) -> None:
        self.note(module)

    def note(self, module: LatentDiffusionModule) -> None:
        parts = module.autoencoder, module.denoiser
        self.weights.append(tuple(torch.cat([w.detach().flatten() for w in part.parameters()]) for part in parts))


def test_the_autoencoder_learns_first_and_rests_while_the_network_learns():
    stages = Stages()
    runner = trainer(stages, max_epochs=2)
    loaders = [DataLoader(images(32), batch_size=16)] * 2
    runner.fit(small(LatentDiffusionModule, autoencoder_epochs=1), *loaders)
    learnt = [[not torch.equal(a, b) for a, b in zip(*pair, strict=True)] for pair in pairwise(stages.weights)]
    assert learnt == [[True, False], [False, True]]


def test_a_captioner_learns_to_name_the_class_and_is_read_by_transformers(tmp_path):
    export = tmp_path / "exported"
    module = small(CaptionerModule, lr=2e-3, export=str(export))
    enough = EarlyStopping("val/named", mode="max", patience=20, stopping_threshold=0.9)
    assert float(fitted(module, enough, max_epochs=20).callback_metrics["val/named"]) > 0.7
    assert [file.name for file in export.glob("*.safetensors")] == ["model.safetensors"]
    assert not list(export.rglob("*.bin"))
    x, label = images(24, seed=5).tensors
    captions = Captions(str(export), min_length=1)(x)
    assert set(captions) <= set(module.templates.all())
    assert sum(module.templates.names(label, captions)) > 0.7 * len(label)
    model, processor = BlipForConditionalGeneration.from_pretrained(export), BlipProcessor.from_pretrained(export)
    inputs = processor(images=x[:1], return_tensors="pt", do_rescale=False)
    said = model.generate(**inputs, max_length=20)[0]
    assert processor.decode(said, skip_special_tokens=True) in module.templates.all()


@pytest.mark.parametrize("kind", [LatentDiffusionModule, CaptionerModule])
def test_the_same_seed_gives_the_same_weights(kind):
    one, two = small(kind), small(kind)
    for module in (one, two):
        torch.manual_seed(5)
        fitted(module, max_epochs=3, limit_train_batches=2)
    others = two.state_dict()
    assert all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("kind", [LatentDiffusionModule, CaptionerModule])
def test_a_run_killed_in_any_stage_goes_on_to_the_weights_and_the_loss_of_an_uninterrupted_one(kind, tmp_path):
    def trained(*callbacks: Callback, checkpoint: Path | None = None) -> tuple[float, dict]:
        stages = {"autoencoder_epochs": 1} if kind is LatentDiffusionModule else {}
        runner, module = trainer(*callbacks, max_epochs=2, num_sanity_val_steps=0), small(kind, **stages)
        runner.fit(module, datamodule=SmallData(), ckpt_path=checkpoint, weights_only=True)
        return float(runner.callback_metrics["train/loss"]), module.state_dict()

    saved = EveryCheckpoint(tmp_path)
    torch.manual_seed(5)
    loss, weights = trained(saved)
    half = len(saved.copies) // 2
    for checkpoint in (saved.copies[1], *saved.copies[half - 1 : half + 1], saved.copies[-2]):
        again, resumed = trained(checkpoint=checkpoint)
        assert again == loss, checkpoint.name
        differ = [name for name, value in weights.items() if not torch.equal(value, resumed[name])]
        assert not differ, checkpoint.name


class EveryStep(Callback):
    """Weights of the denoising network after every step, and whether the average was touched."""

    def __init__(self) -> None:
        self.weights, self.averages = [], []

    def on_train_batch_end(self, trainer: Trainer, module: LatentDiffusionModule, *_: object) -> None:
        for kept, network in ((self.weights, module.denoiser), (self.averages, module.average.module)):
            kept.append(torch.cat([each.detach().flatten() for each in network.parameters()]))


def test_weights_are_averaged_exponentially_from_the_first_step_of_the_network_on_and_the_average_is_exported(tmp_path):
    steps, decay = EveryStep(), 0.8
    module = small(LatentDiffusionModule, ema=decay, autoencoder_epochs=1, export=str(tmp_path / "exported"))
    trainer(steps, max_epochs=2).fit(module, *[DataLoader(images(64), batch_size=16)] * 2)
    of_autoencoder, of_network = steps.weights[:4], steps.weights[4:]
    assert all(torch.equal(each, of_autoencoder[0]) for each in steps.averages[:4]), "there is nothing to average yet"
    expected = of_network[0]
    for now, found in zip(of_network, steps.averages[4:], strict=True):
        expected = decay * expected + (1 - decay) * now
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(steps.averages[-1], of_network[-1])
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "exported", low_cpu_mem_usage=False)
    for exported, average in ((pipe.unet, "unet"), (pipe.text_encoder, "text")):
        own = module.average.module[average].state_dict()
        assert all(torch.equal(value, own[name]) for name, value in exported.state_dict().items())


@pytest.mark.parametrize("kind", ["LatentDiffusionModule", "CaptionerModule"])
def test_the_command_line_trains_it_with_the_class_names_of_the_data(kind, tmp_path):
    sizes = (
        ["--model.autoencoder_channels=[8,8,8]", "--model.channels=[8]", "--model.autoencoder_epochs=1"]
        if kind == "LatentDiffusionModule"
        else ["--model.width=8", "--model.layers=2"]
    )
    options = ["--trainer.max_epochs=2", "--trainer.num_sanity_val_steps=0", f"--model.export={tmp_path / 'exported'}"]
    line = ["fit", "--data=MNISTSubset", f"--model={kind}", *sizes, *FEW_IMAGES, *options, f"--run={tmp_path / 'run'}"]
    outcome = run(line)
    assert outcome.status == 0, outcome.err
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["class_names"] == [str(k) for k in range(10)]
    loaded = {"LatentDiffusionModule": LatentDiffusionModule, "CaptionerModule": CaptionerModule}[kind]
    module = loaded.load_from_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    module.save_pretrained(str(tmp_path / "again"))
    written = [sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.safetensors"))
               for name in ("exported", "again")]  # fmt: skip
    assert written[0] == written[1] != []
    for name in written[0]:
        assert (tmp_path / "exported" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_run_that_ends_before_the_network_is_trained_is_refused():
    with pytest.raises(InputError, match="2 epochs end before the network is trained"):
        fitted(small(LatentDiffusionModule, autoencoder_epochs=2), max_epochs=2)


TOLD = [*CaptionTemplates(TEMPLATES, SHAPE["class_names"]).all(), "a photo of the digit 7", "a T-shirt/top, été"]


@pytest.mark.parametrize("make", [clip_tokenizer, bert_tokenizer])
def test_a_tokenizer_is_a_function_of_its_captions_and_gives_them_back(make):
    tokenizer, again = make(TOLD), make(TOLD)
    assert tokenizer.get_vocab() == again.get_vocab()
    read = tokenizer.batch_decode(tokenizer(TOLD).input_ids, skip_special_tokens=True)
    spelled = [text.replace(" ", "").replace("é", "e") for text in read]
    assert spelled == [text.lower().replace(" ", "").replace("é", "e") for text in TOLD]
    assert max(len(ids) for ids in tokenizer(TEMPLATES).input_ids) < 10, "a word is about a token"


def test_a_name_is_found_as_a_word_and_not_inside_another():
    templates = CaptionTemplates(["a {}"], ["cat", "T-shirt/top"])
    said = ["a cat", "a caterpillar", "a t - shirt / top"]
    assert templates.names(torch.tensor([0, 0, 1]), said) == [True, False, True]


@pytest.mark.parametrize("kind", [LatentDiffusionModule, CaptionerModule])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": None}, "come from the data"),
        ({"class_names": []}, "need the names of the classes"),
        ({"in_channels": 2}, "grey or RGB images, got 2 channels"),
        ({"templates": ["a photo"]}, "one {} each"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind, arguments, message):
    with pytest.raises(InputError, match=message):
        kind(**(SMALL[kind] | SHAPE | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (9, 8)}, "9 x 8 is not a multiple"),
        ({"channels": (9,)}, "multiples of 8"),
        ({"autoencoder_epochs": 0}, "autoencoder_epochs at least 1"),
    ],
)
def test_a_latent_diffusion_model_that_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        LatentDiffusionModule(**(SMALL[LatentDiffusionModule] | SHAPE | arguments))
