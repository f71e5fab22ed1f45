"""What holds for every evaluation of the package, asked of each of them; their own tests ask what they measure."""

import importlib
import json
import pkgutil
import random
import warnings
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from pytorch_lightning import Callback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import DDPStrategy

import lightning_adv.callbacks
from lightning_adv.callbacks.evaluation import EpochEndEvaluation
from lightning_adv.errors import InputError
from lightning_adv.names import key_path
from lightning_adv.reports.storage import as_json, read_results, results_document, section_document
from lightning_adv.results.kept import as_state, from_state
from lightning_adv.results.result import EvaluationResult
from tests.callbacks.evaluations import EVALUATIONS, Data, Evaluation, Module, Normalised
from tests.callbacks.strangers import trainer
from tests.processes import torchrun
from tests.wild.models import Wrapped

pytestmark = pytest.mark.xdist_group("evaluation_laws")  # one worker makes what they share

every_evaluation = pytest.mark.parametrize("name", EVALUATIONS)


def as_text(state: object) -> str:
    """Plain data and tensors, bit for bit."""
    return json.dumps(state, default=lambda tensor: [str(tensor.dtype), tensor.tolist()], sort_keys=True)


class Watch(Callback):
    """Notes what a resumed run begins with."""

    def __init__(self, watched: list[EpochEndEvaluation]) -> None:
        self.watched, self.found = watched, []

    def on_train_start(self, *_: object) -> None:
        self.found = [(as_text(as_state(each.result)), json.loads(json.dumps(each.history))) for each in self.watched]


@dataclass
class Run:
    """What an epoch of training, or a test, leaves with a callback and another of its class that has a name."""

    case: Evaluation
    first: EpochEndEvaluation
    named: EpochEndEvaluation
    after: str
    scalars: dict[str, float]
    folder: Path
    stage: str

    @property
    def both(self) -> tuple[EpochEndEvaluation, EpochEndEvaluation]:
        """The one with the default's name, then the other."""
        return self.first, self.named


def ran(*callbacks: Callback, folder: Path, stage: str = "fit", epochs: int = 1, checkpoint: Path | None = None):
    """A trainer that has trained, or tested, and the text of all that training goes on from."""
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    logger = CSVLogger(folder)
    run = trainer(*callbacks, folder=folder, logger=logger, max_epochs=epochs, log_every_n_steps=1)
    model = Module(Normalised()).train()
    getattr(run, stage)(
        model, datamodule=Data(), ckpt_path=checkpoint, weights_only=None if checkpoint is None else True
    )
    optimizers = [each.state_dict() for each in run.optimizers]
    drawn = torch.rand(3), random.random(), float(np.random.rand())  # noqa: NPY002
    return run, as_text([model.state_dict(), optimizers, drawn, [module.training for module in model.modules()]])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What an epoch leaves without any evaluation."""
    return ran(folder=tmp_path_factory.mktemp("bare"))[1]


@pytest.fixture(scope="module", params=EVALUATIONS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run for all the laws that look at what it left."""
    case = EVALUATIONS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    first, named = case.make(pictures="never"), case.make(name="foo")
    stage = "fit" if case.trains else "test"
    done, after = ran(first, named, folder=folder, stage=stage)
    if case.trains:
        done.save_checkpoint(folder / "last.ckpt")
    scalars = {key: float(value) for key, value in done.callback_metrics.items()}
    return Run(case, first, named, after, scalars, Path(done.logger.log_dir), "val" if case.trains else "test")


def test_every_evaluation_of_the_package_is_asked():
    for module in pkgutil.iter_modules(lightning_adv.callbacks.__path__):
        importlib.import_module(f"lightning_adv.callbacks.{module.name}")

    def below(cls: type) -> set[type]:
        return set(chain.from_iterable({each} | below(each) for each in cls.__subclasses__()))

    ours = {each for each in below(EpochEndEvaluation) if each.__module__.startswith("lightning_adv.")}
    assert ours == {type(case.make()) for case in EVALUATIONS.values()}, "give it a record in evaluations.py"


def test_training_goes_on_bit_for_bit_as_if_there_had_been_no_evaluation(run, bare):
    if run.case.trains:
        assert run.after == bare
        assert {epoch for points in run.first.history.values() for epoch, _ in points} == {1}
    else:
        with pytest.raises(InputError, match="not while training"):
            ran(run.case.make(), folder=run.folder)


def test_all_keys_of_all_kinds_begin_with_the_name(run):
    prefix, result = f"{run.stage}/foo/", run.named.result
    scalars = {f"{prefix}{key}": value for key, value in result.scalars().items()}
    assert scalars
    assert {key: run.scalars[key] for key in scalars} == pytest.approx(scalars)
    assert run.named.history == {key: [[result.epoch, value]] for key, value in scalars.items()}
    own = {key for key in run.scalars if key.startswith(run.stage)} - scalars.keys()
    assert own == run.first.history.keys()
    assert not [key for key in own if key.startswith(prefix)]
    kinds = {
        ".png": [each.name for each in result.pictures()],
        ".csv": [f"table_{n}" for n in range(len(result.tables()))],
    }
    media = run.folder / "media"
    for suffix, names in kinds.items():
        made = {str(path.relative_to(media))[: -len("_000003.png")] for path in media.rglob(f"*{suffix}")}
        assert made == {key_path(f"{prefix}{each}") for each in names}


def test_two_callbacks_of_one_class_have_states_and_files_of_their_own(run, tmp_path):
    assert run.first.state_key != run.named.state_key
    written = []
    for each in run.both:
        folder = tmp_path / each.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            each.write(trainer(folder=tmp_path), Module(Wrapped()), folder)
        written += [path.relative_to(folder) for path in folder.rglob("*.*")]
    if run.case.trains:  # two that repair leave one model
        assert len(set(written)) == len(written), written


def test_history_and_last_result_come_back_when_a_run_is_resumed(run, tmp_path):
    assert None not in [as_state(each.result) for each in run.both], "a result must be plain, or a run forgets it"
    if not run.case.trains:
        torch.save(run.first.state_dict(), tmp_path / "state.pt")
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert state["history"] == run.first.history
        assert as_text(as_state(from_state(state["result"]))) == as_text(as_state(run.first.result))
        return
    resumed = [run.case.make(pictures="never"), run.case.make(name="foo", pictures="never")]
    watch = Watch(resumed)
    ran(*resumed, watch, folder=tmp_path, epochs=2, checkpoint=run.folder.parents[1] / "last.ckpt")
    for (result, history), before, after in zip(watch.found, run.both, resumed, strict=True):
        assert result == as_text(as_state(before.result))
        assert history == before.history
        assert after.result.epoch == 2
        for key, points in before.history.items():
            assert after.history[key][:1] == points
        assert {epoch for points in after.history.values() for epoch, _ in points} == {1, 2}


def test_the_section_of_the_report_is_what_the_schema_says(run, provenance, tmp_path):
    results = [each.result for each in run.both]
    sections = [section_document(each, [picture.name for picture in each.pictures()]) for each in results]
    document = results_document("laws", provenance, sections, run.named.history, {})
    (tmp_path / "results.json").write_bytes(as_json(document))
    back = read_results(tmp_path)
    assert as_json(back) == as_json(document)
    for section in back["sections"]:
        assert {figure["scalar"] for figure in section["key_figures"]} <= section["scalars"].keys()
        assert section["stage"] == run.stage
        assert section["tables"]
        assert all(table["title"] and table["rows"] for table in section["tables"])


def test_every_picture_shows_something(run):
    names = [each.name for each in run.named.result.pictures()]
    assert len(set(names)) == len(names)
    assert all(each.title for each in run.named.result.pictures())
    made = list((run.folder / "media").rglob("*.png"))
    assert len(made) == len(names)
    for path in made:
        with Image.open(path) as picture:
            assert any(low != high for low, high in picture.convert("RGB").getextrema()), path.name


ODD = 23
"""Images of which two ranks have shares of two sizes."""


def evaluated(name: str, folder: Path, devices: int = 1, **shared: object) -> EvaluationResult:
    """What a test of the net leaves, on so many ranks."""
    callback = EVALUATIONS[name].make(pictures="never", **shared)
    options = {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": devices} if devices > 1 else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*found no trigger")
        trainer(callback, folder=folder, **options).test(Module(Wrapped()), datamodule=Data(), verbose=False)
    return callback.result


def figures(result: EvaluationResult) -> dict:
    """What may depend on nothing but the images: not what it cost, and not which images a rank shows."""
    others = ("seconds", "examples", "launches", "image_passes")
    return json.loads(as_json({"scalars": result.scalars(), **_without(result.as_dict(), others)}))


def _without(value: object, keys: tuple[str, ...]) -> object:
    if isinstance(value, dict):
        return {key: _without(each, keys) for key, each in value.items() if key not in keys}
    return [_without(each, keys) for each in value] if isinstance(value, list | tuple) else value


def alike(found: object, expected: object) -> bool:
    """Equal but for the rounding of floats; lists of floats are of images, in the order of the ranks."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(alike(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        if all(isinstance(each, float) for each in expected):
            found, expected = sorted(found), sorted(expected)
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(expected, float):
        return found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    return found == expected


@cache
def on_one_rank(name: str, folder: Path, samples: int) -> dict:
    return figures(evaluated(name, folder, max_samples=samples))


@every_evaluation
def test_figures_do_not_depend_on_the_batch_size(name, tmp_path):
    expected = on_one_rank(name, tmp_path.parent, ODD)
    found = figures(evaluated(name, tmp_path, max_samples=ODD, batch_size=5))
    assert alike(found, expected), (found, expected)


SCRIPT = """
import json, warnings
from pathlib import Path
from torch.distributed import get_rank
from tests.callbacks.evaluations import EVALUATIONS
from tests.callbacks.test_evaluation_laws import ODD, evaluated, figures

warnings.simplefilter("ignore")
found = {}
for name, case in EVALUATIONS.items():
    for samples in (ODD, 1) if case.one_image else (ODD,):
        found[f"{name} {samples}"] = figures(evaluated(name, Path("."), devices=2, max_samples=samples))
with open(f"rank_{get_rank()}.json", "w") as file:
    json.dump(found, file)
"""


@pytest.mark.slow
def test_figures_are_those_of_one_rank_also_where_a_rank_has_no_image(tmp_path):
    torchrun(SCRIPT, tmp_path, 2)
    one, other = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in (0, 1))
    for key, found in one.items():
        name, samples = key.split()
        expected = on_one_rank(name, tmp_path.parent, int(samples))
        assert alike(other[key], found), key
        assert alike(found, expected), (key, found, expected)
    assert len(one) == len(EVALUATIONS) + sum(case.one_image for case in EVALUATIONS.values())


SHARED = ("name", "every_n_epochs", "max_samples", "batch_size", "pictures", "seed")


def arguments(cls: type) -> dict[str, object]:
    """Arguments of a class as the command line sees them: name to help and default."""
    parser = ArgumentParser()
    parser.add_class_arguments(cls, as_positional=False)
    return {each.dest: each for each in parser._actions if each.dest != "help"}


@every_evaluation
def test_shared_arguments_have_one_order_one_default_and_a_help_text(name):
    case = EVALUATIONS[name]
    base, found = arguments(EpochEndEvaluation), arguments(type(case.make()))
    assert tuple(base) == SHARED
    assert base.keys() <= found.keys()
    handed_on = [each for each in SHARED if each not in case.defaults]
    assert list(found)[-len(handed_on) :] == handed_on
    for argument in handed_on:
        assert (found[argument].help, found[argument].default) == (base[argument].help, base[argument].default)
    assert all(found[argument].help for argument in found)
    assert all(found[argument].default != base[argument].default for argument in case.defaults)


WRONG = {"every_n_epochs": 0, "max_samples": 0, "batch_size": -1, "pictures": "sometimes"}


@every_evaluation
@pytest.mark.parametrize("argument", WRONG)
def test_a_shared_argument_that_makes_no_sense_is_one_line_that_names_the_class(name, argument):
    make = EVALUATIONS[name].make
    with pytest.raises(InputError, match=f"{type(make()).__name__}.*{WRONG[argument]}") as error:
        make(**{argument: WRONG[argument]})
    assert argument in str(error.value)
    assert "\n" not in str(error.value)
