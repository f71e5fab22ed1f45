"""The site is built without a warning: no link is broken, no page is lost, no public name lacks a description."""

import io
import shutil
import sys
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from tests.source_tree import ROOT
from tests.test_public_api import surface

pytestmark = pytest.mark.filterwarnings("ignore")  # Python's, of Sphinx's extensions; what Sphinx warns of is looked at


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
def site(checkout: Path) -> tuple[Sphinx, str]:
    """The site without its HTML, and what Sphinx warned of."""
    docs, out, warnings = checkout / "docs", str(checkout / "build"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, docutils_namespace():
        patch.setattr(sys, "path", list(sys.path))
        app = Sphinx(
            docs, docs, out, out, "dummy", {"nitpicky": True, "nb_execution_mode": "off"}, status=None, warning=warnings
        )
        app.build()
    return app, warnings.getvalue()


def test_it_is_built_without_a_warning(site):
    assert site[1] == ""


def test_every_public_name_is_described(site):
    described = {name.rpartition(".")[2] for name in site[0].env.domains.python_domain.objects}
    assert {name.rpartition(".")[2] for name in surface() if name.count(".") > 1} <= described
