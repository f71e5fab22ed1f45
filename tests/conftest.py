"""What holds for every test: one thread, one seed, and nothing that it changes in the process reaches the next one."""

import copy
import gc
import os
import random
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

OF_LIBRARIES = (
    "PL_",
    "KMP_",
    "CUBLAS_",
    "TORCH",
    "_TORCH",
    "PYTORCH_",
    "TRITON_",
    "WANDB_",
    "PYTEST_",
    "MASTER_",
    "TOKENIZERS_",
    "TF_",
)
"""Variables that Lightning, torch and the loggers set on their own."""

OF_RUNS = ("LIGHTNING_ADV_RUN_FOLDER", "LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE")
"""Variables that a run in this process leaves on purpose, for the processes that it launches."""


ADVICE = ("does not have many workers", "GPU available", "number of training batches", "shuffling enabled")
"""Lightning's, which is no error in tests of callbacks."""

SEED_TORCH = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed
"""``manual_seed`` formats a stack trace for every kind of device that is not there: a millisecond, twice a test."""


def pytest_configure() -> None:
    """Several test processes share the cores; a pool of threads in each would slow all of them down.

    Nor does a test cut the power: what is written need not reach the disk before the next line.
    """
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None


@pytest.hookimpl(tryfirst=True)  # xdist looks for groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start processes of their own go to one worker, one after the other: they must not fight for cores."""
    for item in items:
        if {"callbacks", "evaluation"} & set(item.path.parts):
            for text in ADVICE:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:.*{text}"))
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group("processes"))
            continue
        shared = {"concealed_backdoors", "mitigations"} & set(item.path.parts)
        for group in shared | ({"digits"} & set(item.fixturenames)):  # one worker trains what they share
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """What has no group goes by its file: a worker makes the fixtures of a file, and thousands of tests are few shares.

    xdist looks through all shares that a worker had before it gives it another one.
    """
    from xdist.scheduler import LoadGroupScheduling

    class ByFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return super()._split_scope(nodeid).partition("::")[0]

    return ByFile(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Modules and tests live to the end: the garbage collector need not look through them again and again.

    No test asks for ``caplog``, which hangs a handler on each of torch's sixty loggers six times a test.
    """
    if plugin := session.config.pluginmanager.get_plugin("logging-plugin"):
        session.config.pluginmanager.unregister(plugin)
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What fixtures draw does not depend on the tests that this process ran before."""
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """What the test draws does not depend on which fixtures were there already."""
    _seed()


@pytest.fixture(scope="session")
def _trained_once() -> torch.nn.Module:
    from tests.callbacks.strangers import trained

    return trained()


@pytest.fixture
def model(_trained_once: torch.nn.Module) -> torch.nn.Module:
    """A trained stranger's module that a test may change."""
    return copy.deepcopy(_trained_once)


@pytest.fixture
def robustness() -> Callable:
    """A result on 100 images of two classes: 90 correct, 60 under fgsm, 50 under pgd, 45 under both."""

    def make(**changes) -> object:
        from lightning_adv.results.robustness import RobustnessResult
        from tests.results.samples import attack

        known = {
            "title": "Attacks",
            "epoch": 3,
            "samples": 100,
            "clean_correct": 90,
            "class_names": ["cat", "dog"],
            "per_class_samples": [60, 40],
            "per_class_clean_correct": [55, 35],
            "attacks": [attack("fgsm", [35, 25]), attack("pgd", [30, 20])],
            "worst_case_correct": 45,
            "worst_case_per_class": [27, 18],
        }
        return RobustnessResult(**(known | changes))

    return make


@pytest.fixture
def provenance() -> object:
    """Where the figures of a report come from."""
    from lightning_adv.reports.run import Machine, RunInfo

    started, finished = (f"2026-11-21T03:0{minute}:00+00:00" for minute in (0, 4))
    machine = Machine("A processor", [], 2, 8.0, "Linux")
    versions = {"python": "3.11.7", "torch": "2.15.0"}
    return RunInfo("train.py fit", 7, "0123456789abcdef", True, versions, machine, started, finished, "runs/one")


@pytest.fixture(autouse=True)
def process_left_as_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore environment, arguments, folder and torch's switches; fail the test that left what nobody expects.

    ``monkeypatch`` is asked for so that a test's own, declared changes are undone first.
    """
    environment, arguments, folder = dict(os.environ), list(sys.argv), os.getcwd()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    monkeypatch.delenv("LIGHTNING_ADV_RUN_FOLDER", raising=False)
    yield
    monkeypatch.undo()
    leaks = [f"environment variable {name}" for name in _changed(environment)]
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        leaks.append("a process group")
    if not torch.is_grad_enabled():
        leaks.append("disabled gradients")
    if torch.get_default_dtype() != dtype:
        leaks.append(f"default dtype {torch.get_default_dtype()}")
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    sys.argv[:] = arguments
    os.chdir(folder)
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(True)
    torch.set_num_threads(threads)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)
    assert not leaks, f"the test leaves {', '.join(leaks)} behind"


def _seed() -> None:
    seed = int(os.environ.get("TEST_SEED", "0"))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what libraries draw from
    SEED_TORCH(seed)


def _changed(before: dict[str, str]) -> list[str]:
    """Variables that differ from ``before``, but for those that are known to."""
    names = {name for name in set(before) | set(os.environ) if before.get(name) != os.environ.get(name)}
    return sorted(name for name in names if name not in OF_RUNS and not name.startswith(OF_LIBRARIES))
