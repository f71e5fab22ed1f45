"""Trained once for all tests of this folder; Lightning's advice on workers is no error here."""

import copy

import pytest

from tests.callbacks.strangers import PlainModule, trained


@pytest.fixture(scope="session")
def _trained_once() -> PlainModule:
    return trained()


@pytest.fixture
def model(_trained_once: PlainModule) -> PlainModule:
    """A trained stranger's module that a test may change."""
    return copy.deepcopy(_trained_once)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    advice = ("does not have many workers", "GPU available", "number of training batches", "shuffling enabled")
    for item in items:
        if "tests/callbacks" in str(item.path):
            for text in advice:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:.*{text}"))
