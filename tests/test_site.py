"""The site is built without a warning: no link is broken, no page is lost, no public name lacks a description."""

import io
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from tests.source_tree import ROOT
from tests.test_public_api import surface

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Python's, of Sphinx's extensions; what Sphinx warns of is looked at
    pytest.mark.xdist_group("site"),  # one worker builds it once
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the documents, among which a build writes pages, beside links to all that they lead to."""
    root = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name == "docs":
            shutil.copytree(path, root / "docs", ignore=shutil.ignore_patterns("reference"))
        elif path.name != "build" and not path.name.startswith("."):
            (root / path.name).symlink_to(path)
    return root


@pytest.fixture(scope="module")
def site(checkout: Path) -> tuple[set[str], str]:
    """What the site, without its HTML, describes, and what Sphinx warned of.

    In a process of its own: Sphinx imports modules a second time, and no class is then what it was before.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(built, checkout).result()


def built(checkout: Path) -> tuple[set[str], str]:
    docs, out, warnings = checkout / "docs", str(checkout / "build"), io.StringIO()
    settings = {"nitpicky": True, "nb_execution_mode": "off"}
    with docutils_namespace():
        app = Sphinx(docs, docs, out, out, "dummy", settings, status=None, warning=warnings)
        app.build()
    return set(app.env.domains.python_domain.objects), warnings.getvalue()


def test_it_is_built_without_a_warning(site):
    assert site[1] == ""


def test_every_public_name_is_described(site):
    described = {name.rpartition(".")[2] for name in site[0]}
    assert {name.rpartition(".")[2] for name in surface() if name.count(".") > 1} <= described
