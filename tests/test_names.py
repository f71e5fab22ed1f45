import pytest

from lightning_adv.names import file_name, key_path

HOSTILE = (
    "../../x",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:\\x",
    "C:x",
    "nul\x00x",
    "line\nbreak",
    "x.",
    "x ",
    " x",
    ".hidden",
    "-rf",
    "a" * 5000,
    "\N{SNOWMAN}" * 90,
    "\ud800",
    "a*b?",
)


@pytest.mark.parametrize("name", ["pgd20", "PGD 8-255 (L2)", "fgsm_0.1", "worst of 3", "Größe", "x" * 100])
def test_an_ordinary_name_stays_as_it_is(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_leads_into_no_other_folder(name, tmp_path):
    for made in (file_name(name), *key_path(name).split("/")):
        path = tmp_path / "run" / f"{made}_000001.png"
        assert path.resolve().parent == tmp_path / "run"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        (tmp_path / "run" / made).mkdir(exist_ok=True)
        assert (tmp_path / "run" / made).resolve().parent == tmp_path / "run"


def test_names_that_differ_are_different_files():
    made = [file_name(name) for name in (*HOSTILE, "a_b", "x", "_x", "a" * 5001)]
    assert len({name.casefold() for name in made}) == len(made)
