import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel

from lightning_adv.errors import InputError
from lightning_adv.modules import DiffusionModule, VQVAEModule
from lightning_adv.purifiers import VQVAE, Diffusion

SIZE = (8, 8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small network of either kind for RGB images, written as the modules write them."""
    root = tmp_path_factory.mktemp("networks")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        diffusion = DiffusionModule(channels=(8, 16), in_channels=3, image_size=SIZE)
        for parameter in diffusion.average.parameters():  # a fresh network predicts no noise at all
            parameter.add_(0.02 * torch.randn_like(parameter))
        diffusion.save_pretrained(str(root / "diffusion"))
        vqvae = VQVAEModule(channels=(8, 16), codes=16, latent_channels=4, in_channels=3, image_size=SIZE)
        vqvae.save_pretrained(str(root / "vqvae"))
    return {"diffusion": root / "diffusion", "vqvae": root / "vqvae"}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own, with DPM-Solver
@pytest.mark.parametrize("scheduler", ["DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_diffusion_does_not_depend_on_the_batch_and_draws_differ(folders, images, scheduler):
    purifier = Diffusion(str(folders["diffusion"]), noise_level=0.2, steps=3, scheduler=scheduler)
    index = torch.tensor([4, 0, 77, 2, 3])
    whole = purifier(images, index, draw=1)
    alone = torch.cat([purifier(images[i : i + 1], index[i : i + 1], draw=1) for i in range(5)])
    assert torch.equal(whole, alone)
    assert torch.equal(whole, purifier(images, index, draw=1))
    assert not torch.equal(whole, purifier(images, index, draw=2))


def test_diffusion_starts_at_its_noise_level_and_takes_as_many_steps_as_told(folders, images, monkeypatch):
    timesteps = []
    forward = UNet2DModel.forward

    def watched(self, z, timestep, *args, **kwargs):
        timesteps.append(int(timestep))
        return forward(self, z, timestep, *args, **kwargs)

    monkeypatch.setattr(UNet2DModel, "forward", watched)
    Diffusion(str(folders["diffusion"]), noise_level=0.2, steps=4)(images)
    assert timesteps == [199, 149, 99, 49]


def test_less_noise_leaves_more_of_the_image(folders, images):
    levels = [Diffusion(str(folders["diffusion"]), noise_level=t, steps=2)(images) for t in (0.02, 0.5)]
    near, far = (float((purified - images).abs().mean()) for purified in levels)
    assert near < far


@pytest.mark.parametrize("scheduler", ["DDPMScheduler", "DDIMScheduler"])
def test_gradients_through_recomputed_steps_are_those_of_differences(folders, images, scheduler):
    purifier = Diffusion(str(folders["diffusion"]), noise_level=0.1, steps=3, scheduler=scheduler)
    x, index = 0.3 + 0.4 * images[:1], torch.zeros(1, dtype=torch.long)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad((purifier(x, index) * direction).sum(), x)
    step = 1e-3
    up, down = (purifier(x.detach() + s * direction, index).double() for s in (step, -step))
    measured = float(((up - down) * direction).sum()) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(measured, rel=0.02)


def test_a_gradient_keeps_one_step_of_the_network_and_not_all(folders, images):
    def kept(steps: int) -> int:
        purifier = Diffusion(str(folders["diffusion"]), noise_level=0.2, steps=steps)
        x, sizes = images.clone().requires_grad_(True), []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            purifier(x)
        return sum(sizes)

    with_graph = kept_by_the_network(folders, images)
    assert (kept(8) - kept(2)) / 6 < 0.1 * with_graph


def kept_by_the_network(folders: dict[str, Path], images: torch.Tensor) -> int:
    """Numbers that one evaluation keeps for its backward pass."""
    network, sizes = Diffusion(str(folders["diffusion"])).network, []
    x = images.clone().requires_grad_(True)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(x, 10)
    return sum(sizes)


def test_a_vqvae_gives_back_what_its_module_does_and_a_gradient(folders, images):
    purifier = VQVAE(str(folders["vqvae"]))
    x = images.clone().requires_grad_(True)
    purified = purifier(x)
    assert torch.equal(purified, torch.cat([purifier(image[None]) for image in images]))
    assert float(torch.autograd.grad(purified.sum(), x)[0].abs().sum()) > 0
    assert not any(parameter.requires_grad for parameter in purifier.parameters())


def test_weights_that_are_no_safetensors_are_refused(folders, tmp_path):
    shutil.copy(folders["vqvae"] / "config.json", tmp_path)
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"found only diffusion_pytorch_model.bin, which is a pickle"):
        VQVAE(str(tmp_path))


def test_a_damaged_or_foreign_folder_is_refused(folders, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folders["vqvae"], broken)
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="does not load as a VQModel"):
        VQVAE(str(broken))
    with pytest.raises(InputError, match="unet holds no config"):
        Diffusion(str(folders["vqvae"]))


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")  # diffusers' own
def test_what_is_neither_a_folder_nor_in_the_cache_is_named_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match="no folder runs/of/nothing: give one that save_pretrained wrote"):
        VQVAE("runs/of/nothing")
    with pytest.raises(InputError, match="run `hf download nobody/nothing`"):
        VQVAE("nobody/nothing", local_files_only=True)


@pytest.mark.parametrize("kind", [VQVAE, Diffusion])
def test_images_that_the_network_was_not_made_for_are_refused(folders, kind):
    purifier = kind(str(folders[kind.__name__.lower()]))
    with pytest.raises(InputError, match="images of 3 channels, got 1"):
        purifier(torch.rand(1, 1, *SIZE))
    with pytest.raises(InputError, match="9 x 8 is not a multiple"):
        purifier(torch.rand(1, 3, 9, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise_level": 0}, r"noise_level must lie in \(0, 1\]"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"scheduler": "UNet2DModel"}, "scheduler must name a scheduler of diffusers"),
    ],
)
def test_what_cannot_be_meant_is_refused(folders, arguments, message):
    with pytest.raises(InputError, match=message):
        Diffusion(str(folders["diffusion"]), **arguments)
