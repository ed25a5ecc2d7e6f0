from __future__ import annotations

import io

from rich.console import Console

from neurochains.cli.summary import metrics_tables, verdict

from .conftest import METRICS


def drawn(metrics) -> dict[str, list[str]]:
    """Return what stands in each line of the tables, by its first words."""
    screen = io.StringIO()
    Console(file=screen, width=200).print(metrics_tables(metrics))
    cells = [[cell for cell in line.split("  ") if cell.strip()] for line in screen.getvalue().splitlines()]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells if row}


def test_a_chain_in_two_sentences():
    kept = "260 of 520 filters (50.0%) in 8 layers keep 100% of the predictions, at a mean KL of 0.041."
    assert verdict(METRICS) == f"{kept} The best other choice of as many filters reaches 3.5."
    assert verdict({**METRICS, "controls": None}) == kept


def test_the_complement_is_no_choice_of_as_many_filters():
    assert verdict({**METRICS, "controls": {"complement": {"kl": 0.0}, "random": {"kl": 2.0}}}).endswith("reaches 2.")


def test_outputs_that_are_no_classes_are_not_predictions():
    metrics = {**METRICS, "kl": None, "agreement": None, "divergence": 0.2}
    assert "in 8 layers keep the outputs, at a mean divergence of 0.2." in verdict(metrics)
    assert drawn(metrics)["mean divergence"] == ["0.2000"]
    assert "mean KL" not in drawn(metrics)


def test_measures_stand_beside_those_on_held_out_images():
    rows = drawn({**METRICS, "held_out": {"images": 8, "kl": 0.5, "agreement": 0.75}})
    assert rows["mean KL"] == ["0.0410", "0.5000"]
    assert rows["predictions kept"] == ["100.0%", "75.0%"]
    assert rows["images"] == ["4", "8"]


def test_sizes_and_controls():
    rows = drawn(METRICS)
    assert rows["filters"] == ["260", "520", "50.0%"]
    assert rows["MACs"] == ["12,650,000", "50,603,008", "25.0%"]
    assert rows["this chain"] == ["0.0410", "100.0%"]
    assert rows["random global"] == ["3.5000", "50.0%"]


def test_what_was_not_measured_is_left_out():
    rows = drawn({"filters": 1, "of": 2, "layers": 1})
    assert "accuracy" not in rows
    assert "this chain" not in rows
    assert rows["filters"] == ["1", "2", "50.0%"]


PATCHES = {"kept": 30, "of": 400, "seconds_original": 0.02, "seconds_dropped": 0.005, "seconds_images": 5}


def test_patches_are_summed_up_alone_and_beside_units():
    fidelity = {"images": 5, "kl": 0.03, "agreement": 1.0}
    alone = {**fidelity, "patches": PATCHES, "controls": {"random_patches": {"kl": 0.9}}}
    kept = "7.5% of the patches over all blocks keep 100% of the predictions, at a mean KL of 0.03."
    assert verdict(alone, ("patches",)) == f"{kept} The best other choice of as many patches reaches 0.9."
    rows = drawn(alone)
    assert rows["patches, over images and blocks"] == ["30", "400", "7.5%"]
    assert rows["time with all patches"] == ["20.0 ms"]
    assert rows["time with the kept patches"] == ["5.0 ms"]
    assert "filters" not in rows
    both = verdict({**METRICS, "patches": PATCHES}, ("heads", "patches"))
    assert both.startswith("260 of 520 units (50.0%) in 8 layers and 7.5% of the patches over all blocks keep")
