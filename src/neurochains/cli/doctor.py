"""`neurochains doctor`: how a model is understood, and whether what was understood computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from neurochains.cli.console import results_console, working, write_json
from neurochains.cli.models import ModelChoice, check_device
from neurochains.cli.options import AsJson, Device, InputSize, Model, RandomWeights, TrustPickle, Weights

if TYPE_CHECKING:
    from neurochains.edit.doctor import Diagnosis, LayerReport

__all__ = ["doctor"]


def doctor(
    model: Model,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    random_weights: RandomWeights = False,
    input_size: InputSize = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Say how a model is understood: layers, filters, kernels, blocks, parity."""
    choice = ModelChoice(model, weights, trust_pickle, random_weights, input_size)
    with working("nothing was written."):
        found = _examined(choice, device)
    if as_json:
        write_json(found.to_json())
    else:
        _show(found)
    for parity in (found.traced, found.compacted):
        if parity is not None:
            parity.check()


def _examined(choice: ModelChoice, device: str | None) -> Diagnosis:
    from neurochains.edit.doctor import examine

    check_device(device)
    model = choice.load()
    return examine(model if device is None else model.to(device), choice.example(model))


def _show(found: Diagnosis) -> None:
    console = results_console()
    console.print(_layer_table(found))
    if found.blocks:
        console.print(_block_table(found))
    console.print(_summary(found))


def _layer_table(found: Diagnosis) -> Table:
    table = Table(title="Layers, in order of execution", title_justify="left", box=None, pad_edge=False)
    for name in ("label", "name", "kind", "role"):
        table.add_column(name, no_wrap=True)
    for name in ("units", "kernel", "stride", "map", "sees"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in found.layers:
        table.add_row(*_layer_row(layer))
    return table


def _layer_row(layer: LayerReport) -> tuple[str, ...]:
    kind = f"{layer.kind}, {layer.groups} groups" if layer.groups > 1 and layer.kind == "conv" else layer.kind
    lengths = (layer.kernel, layer.stride, layer.map_size or (), layer.receptive_field)
    return (layer.label, layer.name, kind, layer.role, f"{layer.units:,}", *map(_by, lengths))


def _by(lengths: tuple[int, ...]) -> str:
    return "x".join(map(str, lengths))


def _block_table(found: Diagnosis) -> Table:
    table = Table(title="\nBlocks that can be skipped", title_justify="left", box=None, pad_edge=False)
    for name in ("label", "name", "layers"):
        table.add_column(name)
    for block in found.blocks:
        table.add_row(block.label, block.name, str(len(block.layers)))
    return table


def _summary(found: Diagnosis) -> Table:
    table = Table(title="\nIn short", title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for what, value in found.lines():
        table.add_row(what, value)
    return table
