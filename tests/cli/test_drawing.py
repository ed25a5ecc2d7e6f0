"""Figures that commands write."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from neurochains.cli.drawing import save_figures, tell_figures
from neurochains.errors import ArtifactError


def test_each_figure_is_written_twice_and_told(tmp_path, capsys):
    files = save_figures({"one": Figure(), "two": Figure()}, tmp_path / "a" / "b")
    assert [file.rsplit("/", 1)[1] for file in files] == ["one.svg", "one.png", "two.svg", "two.png"]
    assert all((tmp_path / "a" / "b" / file.rsplit("/", 1)[1]).stat().st_size for file in files)
    tell_figures(files)
    assert capsys.readouterr().out.splitlines() == [f"drew {file}" for file in files]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("something")
    with pytest.raises(ArtifactError, match=r"file/figures cannot be made: .*Choose another --out"):
        save_figures({}, tmp_path / "file" / "figures")
