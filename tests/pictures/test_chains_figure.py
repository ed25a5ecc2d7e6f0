from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.image import AxesImage

from neurochains.errors import DataError
from neurochains.pictures import ChainRow, Sample, chain_figure, chain_table


def picture(side: int = 20) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8)


def row(index: int, *, samples: int = 2, crops: int = 3, visual: bool = True) -> ChainRow:
    return ChainRow(
        label=f"L4B{index}C2_{480 + index}",
        score=1.25,
        share=0.4,
        visual=picture() if visual else None,
        heatmaps=[picture() for _ in range(samples)],
        crops=[picture() for _ in range(crops)],
        reached=13.14159,
        largest_in_data=9.5,
    )


SAMPLES = [Sample("dalmatian/003.jpg", picture()), Sample("a very long name of a sample image.jpg", picture(50))]


@pytest.mark.parametrize(("rows", "samples", "crops"), [(1, 1, 0), (5, 2, 4), (16, 2, 1), (3, 5, 9), (4, 0, 2)])
def test_every_size_is_legible_and_complete(rows: int, samples: int, crops: int, legible, words) -> None:
    chosen = [Sample(f"image {i}", picture()) for i in range(samples)]
    made = chain_figure([row(i, samples=samples, crops=crops) for i in range(rows)], samples=chosen, title="dalmatian")
    legible(made)
    assert len(made.findobj(AxesImage)) == samples + rows * (1 + samples + crops)
    written = words(made)
    assert [text for text in written if text.startswith("L4B")] == [f"L4B{i}C2_{480 + i}" for i in range(rows)]
    assert all(sample.name in written for sample in chosen)
    assert ("strongest in the data" in written) == bool(crops)


def test_a_row_says_what_is_known(words) -> None:
    written = words(chain_figure([row(1)], samples=SAMPLES))
    for text in ("score 1.25", "largest in data 9.5", "optimised 13.1", "40 % share"):
        assert text in written
    bare = words(chain_figure([ChainRow("L0_1", None, None, None)]))
    assert bare == ["L0_1"]


def test_pictures_stay_inside_the_page() -> None:
    made = chain_figure([row(i, crops=6) for i in range(3)], samples=SAMPLES)
    width, height = made.get_size_inches() * 72
    for image in made.findobj(AxesImage):
        left, right, bottom, top = image.get_extent()
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_missing_pictures_are_said_to_be_missing(words) -> None:
    rows = [row(0), row(1, visual=False), row(2, crops=1)]
    assert words(chain_figure(rows, samples=SAMPLES)).count("none") == 3


def test_rows_need_a_heatmap_for_each_sample() -> None:
    with pytest.raises(DataError, match=r"one heatmap for each of 2 samples, got \[1, 2\]"):
        chain_figure([row(0), row(1, samples=1)], samples=SAMPLES)
    with pytest.raises(DataError, match="got no row"):
        chain_figure([])


def test_the_table_holds_plain_arrays() -> None:
    (entry,) = chain_table([replace(row(3), crops=(np.zeros((5, 6, 3), np.uint8),))])
    assert entry["label"] == "L4B3C2_483"
    assert (entry["score"], entry["share"], entry["reached"], entry["largest_in_data"]) == (1.25, 0.4, 13.14159, 9.5)
    shapes = [array.shape for array in [entry["visual"], *entry["heatmaps"], *entry["crops"]]]
    assert shapes == [(20, 20, 3)] * 3 + [(5, 6, 3)]
    assert all(array.dtype == np.uint8 for array in entry["heatmaps"])
    assert chain_table([ChainRow("L0_1", None, None, None)])[0]["visual"] is None
