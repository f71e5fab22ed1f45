import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, LDMTextToImagePipeline, StableDiffusionImg2ImgPipeline
from torch import nn

from lightning_adv.attacks import FGSM, SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.files import read_lines
from lightning_adv.purifiers import (
    Captions,
    ConstantPrompt,
    LanguageGuidedDiffusion,
    PredictedClass,
    PurifiedClassifier,
    fingerprint,
)
from tests.purifiers.language import CLASSES, SIZE, write_captioner, write_latent_diffusion, write_text_to_image

PIPELINE = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor"
INDEX = torch.tensor([4, 0, 77, 2, 2**40])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_latent_diffusion(tmp_path_factory.mktemp("latent") / "model")


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("captioner") / "model")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def classifier(channels: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * SIZE[0] * SIZE[1], len(CLASSES)))


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DDPMScheduler"])
@pytest.mark.parametrize("kind", ["caption", "none", "label"])
def test_the_same_seed_gives_the_same_images_whatever_the_batch_and_draws_differ(
    folder, captioner, images, kind, scheduler
):
    prompts = {
        "caption": lambda: Captions(str(captioner), beams=2),
        "none": ConstantPrompt,
        "label": lambda: PredictedClass(classifier(), CLASSES),
    }[kind]()
    purifier = LanguageGuidedDiffusion(str(folder), prompts, steps=3, scheduler=scheduler)
    assert purifier.randomised
    assert purifier.differentiable
    whole = purifier(images, INDEX, draw=1)
    assert (float(whole.min()) >= 0, float(whole.max()) <= 1, whole.shape) == (True, True, images.shape)
    assert torch.equal(whole, purifier(images, INDEX, draw=1))
    alone = torch.cat([purifier(images[i : i + 1], INDEX[i : i + 1], draw=1) for i in range(5)])
    assert torch.equal(whole, alone)
    assert not torch.equal(whole, purifier(images, INDEX, draw=2))


def test_it_computes_what_the_pipeline_of_diffusers_computes(folder, images, monkeypatch):
    captions = [f"a photo of a {CLASSES[i % 3]}" for i in range(5)]
    purifier = LanguageGuidedDiffusion(str(folder), Given(captions), strength=0.5, steps=5, guidance=4.0, chunk=5)
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(str(folder), safety_checker=None, low_cpu_mem_usage=False)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    pipe.set_progress_bar_config(disable=True)
    noise = SampleNoise(0, INDEX)  # as the purifier draws: for the posterior, then for t*
    posterior = pipe.vae.encode(2 * images - 1).latent_dist
    latents = posterior.mean + posterior.std * noise.normal(posterior.mean)
    monkeypatch.setattr(PIPELINE, lambda shape, **_: noise.normal(latents))
    scaled = (pipe.vae.config.scaling_factor * latents).detach()
    expected = pipe(
        captions, image=scaled, strength=0.5, num_inference_steps=10, guidance_scale=4.0, output_type="pt"
    ).images
    assert torch.allclose(purifier(images, INDEX), expected, atol=1e-5)


@pytest.mark.parametrize("own_bert", [True, False], ids=["LDMBertModel", "BertModel"])
def test_it_computes_what_the_pipeline_with_a_bert_computes(tmp_path, own_bert):
    folder = write_text_to_image(tmp_path / "model", own_bert)
    images, index = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)), INDEX[:2]
    captions = ["a photo of a cat", "a photo of a ship"]
    purifier = LanguageGuidedDiffusion(str(folder), Given(captions), strength=1.0, steps=4, guidance=3.0, chunk=2)
    pipe = LDMTextToImagePipeline.from_pretrained(str(folder), low_cpu_mem_usage=False)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    pipe.set_progress_bar_config(disable=True)
    noise = SampleNoise(0, index)  # as the purifier draws: for the posterior, then for t*
    posterior = pipe.vqvae.encode(2 * images - 1).latent_dist
    latents = pipe.vqvae.config.scaling_factor * (posterior.mean + posterior.std * noise.normal(posterior.mean))
    latents = pipe.scheduler.add_noise(latents, noise.normal(latents), torch.tensor([999, 999]))
    made = pipe(captions, 64, 64, num_inference_steps=4, guidance_scale=3.0, latents=latents.detach(), output_type="pt")
    assert torch.allclose(purifier(images, index), made.images, atol=1e-5)
    said, unsaid = (purifier(images, index) for purifier in (purifier, purifier.told(ConstantPrompt(""))))
    assert not torch.allclose(said, unsaid, atol=1e-4), "the prompts are read"


def test_a_reader_of_prompts_that_is_not_known_is_named_and_none_of_its_code_is_looked_for(tmp_path):
    folder = write_text_to_image(tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    index["bert"] = ["evil", "T5EncoderModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="prompts are read by a T5EncoderModel; this purifier knows CLIPTextModel, "):
        LanguageGuidedDiffusion(str(folder))
    for broken, message in {
        "{": "does not load as a DiffusionPipeline",
        "[1]": "does not name the parts of a pipeline",
        '{"bert": []}': "vae holds no config.json",
        '{"bert": ["LDMBertModel"], "vqvae": 3}': None,
        '{"bert": [null, 3]}': "vae holds no config.json",
    }.items():
        (folder / "model_index.json").write_text(broken)
        if message is None:
            LanguageGuidedDiffusion(str(folder))
            continue
        with pytest.raises(InputError, match=message):
            LanguageGuidedDiffusion(str(folder))


class Given(ConstantPrompt):
    """Texts in the order of the images."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self.texts = texts

    def prompts(self, x: torch.Tensor, keep: bool) -> list[str]:
        return self.texts


def test_what_is_said_of_an_image_changes_the_result_and_guidance_weighs_it(folder, images):
    def purified(text: str, guidance: float) -> torch.Tensor:
        purifier = LanguageGuidedDiffusion(str(folder), ConstantPrompt(text), steps=2, guidance=guidance)
        return purifier(images, INDEX)

    cat, dog, nothing = "a photo of a cat", "a photo of a dog", ""
    assert not torch.allclose(purified(cat, 5), purified(dog, 5), atol=1e-4)
    assert torch.allclose(purified(cat, 0), purified(nothing, 1), atol=1e-5)
    weak, strong = ((purified(cat, g) - purified(nothing, 1)).abs().mean() for g in (1, 8))
    assert weak < strong


def test_the_same_networks_under_other_prompts_are_another_purifier(folder, images):
    cat, dog = ConstantPrompt("a photo of a cat"), ConstantPrompt("a photo of a dog")
    one = LanguageGuidedDiffusion(str(folder), cat, steps=2)
    before = one(images, INDEX)
    other = one.told(dog)
    assert torch.equal(other(images, INDEX), LanguageGuidedDiffusion(str(folder), dog, steps=2)(images, INDEX))
    assert torch.equal(one(images, INDEX), before)
    assert other.network is one.network


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_gradients_through_recomputed_steps_are_those_of_differences(folder, images, guidance):
    purifier = LanguageGuidedDiffusion(str(folder), ConstantPrompt("a cat"), 0.3, steps=3, guidance=guidance)
    x, index = 0.3 + 0.4 * images[:1], INDEX[:1]
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    x.requires_grad_(True)

    def unclamped(image: torch.Tensor) -> torch.Tensor:
        return purifier.purify(image, SampleNoise(0, index))

    (gradient,) = torch.autograd.grad((unclamped(x) * direction).sum(), x)
    step = 1e-3
    with torch.no_grad():
        up, down = (unclamped(x + s * direction).double() for s in (step, -step))
    measured = float(((up - down) * direction).sum()) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(measured, rel=0.03)


def test_a_gradient_keeps_one_step_of_the_network_and_not_all(folder, images):
    def kept(steps: int) -> int:
        purifier = LanguageGuidedDiffusion(str(folder), ConstantPrompt("a cat"), steps=steps)
        return kept_for_backward(lambda x: purifier(x, INDEX), images)

    network = LanguageGuidedDiffusion(str(folder)).network
    text = torch.zeros(10, 77, network.config.cross_attention_dim)
    latents = torch.rand(10, 4, 4, 4)  # with and without the prompt
    whole = kept_for_backward(lambda z: network(z, 10, text[:, :8]).sample, latents)
    assert (kept(8) - kept(2)) / 6 < 0.1 * whole


def kept_for_backward(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> int:
    """Numbers that a gradient by ``x`` keeps until its backward pass."""
    sizes: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function(x.clone().requires_grad_(True))
    return sum(sizes)


def test_grey_images_come_back_grey_and_other_channels_are_refused(folder):
    purifier = LanguageGuidedDiffusion(str(folder), steps=1)
    assert purifier(torch.rand(2, 1, *SIZE)).shape == (2, 1, *SIZE)
    with pytest.raises(InputError, match=r"images of 3 channels, got 2$"):
        purifier(torch.rand(1, 2, *SIZE))


def test_a_size_that_the_encoder_cannot_halve_is_refused_unless_images_are_resized(folder):
    odd = torch.rand(2, 3, 9, 11)
    with pytest.raises(InputError, match="9 x 11 is not a multiple; set size to a multiple of 2"):
        LanguageGuidedDiffusion(str(folder))(odd)
    with pytest.raises(InputError, match="9 x 9 is not a multiple"):
        LanguageGuidedDiffusion(str(folder), size=9)
    assert LanguageGuidedDiffusion(str(folder), size=16, steps=1)(odd).shape == odd.shape


def test_a_missing_part_is_named_with_its_folder(folder, tmp_path):
    for part, message in {
        "vae": "vae holds no config.json",
        "unet": "unet holds no config.json",
        "text_encoder": "text_encoder holds no config.json",
        "tokenizer": "tokenizer holds no CLIPTokenizer",
        "scheduler": "holds no scheduler/scheduler_config.json",
    }.items():
        copy = tmp_path / part
        shutil.copytree(folder, copy)
        shutil.rmtree(copy / part)
        with pytest.raises(InputError, match=message):
            LanguageGuidedDiffusion(str(copy))


def test_weights_that_are_no_safetensors_are_refused_and_code_in_a_folder_is_never_run(folder, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    weights = next((copy / "text_encoder").glob("*.safetensors"))
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(InputError, match=r"found only pytorch_model.bin, which is a pickle"):
        LanguageGuidedDiffusion(str(copy))
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    config = json.loads((copy / "text_encoder" / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil"}
    (copy / "text_encoder" / "config.json").write_text(json.dumps(config))
    (copy / "text_encoder" / "evil.py").write_text("raise SystemExit('ran')")
    LanguageGuidedDiffusion(str(copy))


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")  # diffusers' own
def test_a_model_that_is_not_in_the_cache_is_named_with_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match="no folder runs/no/model: give one that save_pretrained wrote, or a hub id"):
        LanguageGuidedDiffusion("runs/no/model")
    with pytest.raises(InputError, match="run `hf download nobody/nothing`"):
        LanguageGuidedDiffusion("nobody/nothing", local_files_only=True)


@pytest.mark.parametrize("index", [True, False])
def test_what_the_cache_of_the_hub_holds_is_read_with_an_index_or_part_by_part(folder, tmp_path, index):
    cached, commit = tmp_path / "hub" / "models--owner--name", "a" * 40
    shutil.copytree(folder, cached / "snapshots" / commit)
    if not index:
        (cached / "snapshots" / commit / "model_index.json").unlink()
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    code = "from lightning_adv.purifiers import LanguageGuidedDiffusion as L; L('owner/name', local_files_only=True)"
    # The hub's library reads where its cache lies when it is imported.
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 0}, r"strength must lie in \(0, 1\]"),
        ({"strength": 0.001, "steps": 4}, "strength 0.001 leaves 1 of the diffusion's 1000 steps, fewer than steps=4"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"guidance": -1}, "guidance must not be negative"),
        ({"scheduler": "Nothing"}, "scheduler must name a scheduler of diffusers"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, arguments, message):
    with pytest.raises(InputError, match=message):
        LanguageGuidedDiffusion(str(folder), **arguments)


def test_it_is_attacked_under_every_threat_model_and_attackers_fill_no_cache(folder, captioner, images, tmp_path):
    captions = Captions(str(captioner), cache=str(tmp_path))
    purifier = LanguageGuidedDiffusion(str(folder), captions, steps=2)
    whole = PurifiedClassifier(purifier, classifier())
    label = torch.arange(5) % 3
    for threat in ("blind", "bpda", "bpda_eot", "adaptive"):
        attacked = whole.attacked(FGSM(0.1), threat, images, label, INDEX, draws=2)
        assert float((attacked - images).abs().max()) == pytest.approx(0.1, abs=1e-5)
    assert not list(tmp_path.iterdir())
    whole.judge(images, INDEX, draws=2)
    assert sum(len(read_lines(file)) for file in tmp_path.iterdir()) == 5


def test_a_fingerprint_tells_weights_and_settings_apart_and_not_folders(folder, captioner, tmp_path):
    def made(path: Path = folder, strength: float = 0.5, **caption: object) -> str:
        return fingerprint(LanguageGuidedDiffusion(str(path), Captions(str(captioner), **caption), strength))

    shutil.copytree(folder, tmp_path / "copy")
    assert made() == made(tmp_path / "copy") == made(cache=str(tmp_path))
    other = write_latent_diffusion(tmp_path / "other", channels=1)
    weights = other / "vae" / "diffusion_pytorch_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    assert len({made(), made(strength=0.4), made(beams=1), made(other)}) == 4


def test_it_runs_inside_inference_mode_and_in_half_precision_and_draws_from_no_global_generator(
    folder, captioner, images
):
    purifier = LanguageGuidedDiffusion(str(folder), Captions(str(captioner)), steps=2, scheduler="DDPMScheduler")
    state = torch.random.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inside = purifier(images)
    assert inside.dtype == torch.float32
    assert torch.allclose(inside, purifier(images), atol=1e-6)
    assert torch.equal(state, torch.random.get_rng_state())
