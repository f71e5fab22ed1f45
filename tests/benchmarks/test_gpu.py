"""Measurements on a GPU go on where they ended, piece by piece, and a row says how much of it there is."""

import pytest

from benchmarks import gpu
from benchmarks.gpu import SMALL, Piece, Scale, gpu_rows, pieces
from experiments.kept import Kept


@pytest.fixture
def runs(monkeypatch):
    """Runs of two ways of one work, which is cut in two parts."""
    counted = []

    def made(how):
        return lambda device: lambda: counted.append(how)

    every = [Piece("work", how, 10, made(how), part) for part in (0, 1) for how in ("first", "second")]
    monkeypatch.setattr(gpu, "pieces", lambda scale: iter(every))
    return counted


def test_nothing_begins_after_the_time_is_over(tmp_path, runs):
    rows = gpu_rows("cpu", SMALL, Kept(tmp_path), until=0)
    assert runs == []
    assert [row[2:4] for row in rows] == [[f"{how}: not measured yet", None] for how in ("first", "second")]


def test_a_later_run_measures_what_is_missing_and_no_more(tmp_path, runs):
    kept = Kept(tmp_path)
    gpu_rows("cpu", SMALL, kept)
    kept.path("work second 1", "json").unlink()
    runs.clear()
    rows = gpu_rows("cpu", SMALL, kept, until=0)
    assert runs == []
    assert [row[2] for row in rows] == ["first", "second (10 measured)"]
    gpu_rows("cpu", SMALL, kept)
    assert runs == ["second"]


def test_figures_of_another_scale_do_not_mix_in(tmp_path, runs):
    gpu_rows("cpu", SMALL, Kept(tmp_path))
    assert {row[3] for row in gpu._rows("CPU", Scale(), Kept(tmp_path))} == {None}


def test_a_short_time_compares_all_ways_of_a_work():
    names = [(piece.how, piece.part) for piece in pieces() if piece.work.startswith("AutoAttack")]
    ways = {how for how, _ in names}
    assert len(ways) == 4
    assert {how for how, part in names[:4]} == ways
    assert sum(piece.count for piece in pieces() if piece.how == "the package") == Scale().attacked


def test_names_of_pieces_are_files_of_their_own():
    for scale in (SMALL, Scale()):
        names = [piece.name for piece in pieces(scale)]
        assert len(set(names)) == len(names)
