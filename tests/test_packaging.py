"""What users get from an installation: a small import, a whole wheel, declared dependencies."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from tests.source_tree import CALLBACKS, PACKAGE, ROOT, imports, source_files
from tests.test_architecture import FREE_OF_THE_TRAINER

pytestmark = pytest.mark.xdist_group("processes")  # one worker builds the wheel once

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run_python(*args: str, cwd: Path) -> str:
    """Standard output of an interpreter of its own."""
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an unpacked wheel keeps for its next start goes with it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that a release would have: built from the unpacked source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    run_python("-m", "hatchling", "build", "-t", "sdist", "-d", str(folder), cwd=ROOT)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "source", filter="data")
    source = next((folder / "source").iterdir())
    run_python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=source)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_module_template_and_the_type_marker(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    package = {path for path in PACKAGE.rglob("*") if path.is_file() and "callbacks" not in path.parts}
    expected = {str(path.relative_to(ROOT)) for path in package if path.suffix not in (".pyc", ".pyo")}
    expected |= {f"lightning_adv/callbacks/{path.relative_to(CALLBACKS)}" for path in CALLBACKS.rglob("*.py")}
    expected |= {f"lightning_adv/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert "lightning_adv/py.typed" in expected
    assert any(path.endswith(".j2") for path in expected)
    assert expected - held == set()


def test_the_wheel_installs_one_top_level_package(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    assert len(held) == len(set(held))
    assert {path.split("/")[0] for path in held if ".dist-info/" not in path} == {"lightning_adv"}
    assert any(path.endswith("licenses/LICENSE") for path in held)


FROM_THE_WHEEL = """
import runpy, sys
wheel, *_ = sys.path[:0] = [sys.argv.pop(1)]
for command in FIT, EVALUATE:
    sys.argv = ["lightning-adv", *command.split()]
    runpy.run_module("lightning_adv", run_name="__main__")
homes = {module.__file__ for name, module in sys.modules.items() if name.startswith("lightning_adv.")}
sys.exit(not all(home.startswith(wheel) for home in homes if home))
"""
FIT = (
    "fit --config demo --trainer.max_epochs 2 --data.max_train_samples=40 --data.max_val_samples=6 "
    "--data.max_test_samples=6 --trainer.callbacks.max_samples=6"
)
EVALUATE = "evaluate --ckpt_path last --config evaluate/autoattack --trainer.callbacks.max_samples=4"


@pytest.mark.slow
def test_the_program_of_the_wheel_trains_and_evaluates_outside_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = f"FIT, EVALUATE = {FIT!r}, {EVALUATE!r}{FROM_THE_WHEEL}"
    # -P keeps the folder of the script off the path; the checkout is installed, so the wheel must come first
    said = run_python("-P", "-c", code, str(tmp_path / "installed"), cwd=tmp_path)
    assert re.findall(r"^report: (runs/\w+)/", said, re.MULTILINE) == ["runs/demo", "runs/evaluate"]


def test_an_index_would_take_the_wheel_and_its_source_distribution(wheel):
    built = [path for path in wheel.parent.iterdir() if path.is_file()]
    assert {path.suffix for path in built} == {".whl", ".gz"}
    said = run_python("-m", "twine", "--no-color", "check", "--strict", *map(str, built), cwd=wheel.parent)
    assert said.count(": PASSED") == 2


def test_the_wheel_names_its_program(wheel):
    held = zipfile.ZipFile(wheel)
    (scripts,) = (name for name in held.namelist() if name.endswith("entry_points.txt"))
    assert held.read(scripts).decode().splitlines() == [
        "[console_scripts]",
        "lightning-adv = lightning_adv.__main__:main",
    ]


LIGHTNING = {"pytorch_lightning", "lightning", "lightning_fabric", "wandb", "tensorboard", "jsonargparse"}
FOR_SOME = {"diffusers", "kornia", "mlxtend", "sklearn", "timm", "wandb", "lightning_adv.models.factory"}
DRAW = "from lightning_adv.results.figures import *; png(history_curves({'accuracy': [(1, 0.5)]}), dpi=40)"
START = [
    ("import lightning_adv", {"torch", "numpy", "matplotlib", *LIGHTNING, *FOR_SOME}),
    (DRAW, {"matplotlib.pyplot", *LIGHTNING, *FOR_SOME}),
    *((f"import lightning_adv.{package}", {*LIGHTNING, *FOR_SOME}) for package in FREE_OF_THE_TRAINER),
    ("import lightning_adv.models.weights", {*LIGHTNING, *FOR_SOME}),
    ("import lightning_adv.data", FOR_SOME),
    ("import lightning_adv.cli.entry", FOR_SOME),
]
"""What a program does one after the other, and what it must not have loaded by then."""


def test_nothing_is_imported_that_not_everybody_needs():
    lines = (f"{code}\nprint(*({code!r} for each in {unwanted} if each in sys.modules))" for code, unwanted in START)
    assert run_python("-c", "\n".join(["import sys", *lines]), cwd=ROOT).split() == []


def test_a_subpackage_is_imported_when_it_is_asked_for():
    code = "import lightning_adv; print(lightning_adv.errors.InputError.__mro__[1].__name__, lightning_adv.__version__)"
    assert run_python("-c", code, cwd=ROOT).split() == ["ValueError", version("lightning-adv")]


def test_an_unknown_name_is_an_attribute_error():
    import lightning_adv

    with pytest.raises(AttributeError, match="has no attribute 'atacks'"):
        lightning_adv.atacks  # noqa: B018 - asking for it is the test


def test_every_package_that_the_code_imports_is_a_declared_dependency():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["onnx"]]
    declared = {_normal(re.split(r"[\[<>=!~; ]", each)[0]) for each in wanted}
    homes = packages_distributions()
    undeclared = {}
    for path in source_files():
        for module in {each.split(".")[0] for each in imports(path, annotations_too=True)}:
            if module in sys.stdlib_module_names or module in ("lightning_adv", "__future__"):
                continue
            if not declared & {_normal(each) for each in homes.get(module, [])}:
                undeclared.setdefault(module, str(path.relative_to(ROOT)))
    assert not undeclared


def test_the_changelog_knows_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"[{PROJECT['version']}]" in text or "[Unreleased]" in text


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
