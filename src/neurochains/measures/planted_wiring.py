"""From a design to units on channels: the true parts, other circuits, decoys and copies, in a random order.

What stands around the true parts of a layer:

- *other circuits*: corners and shapes of classes that the task does not show;
- *shadows*: the same weights as a true part, so the same map, but nothing reads them;
- *silent* filters: they are read, but no weight of theirs is above 0, so their bias keeps them at 0 whatever the
  scores of what they read, which is never below 0;
- an *opposed* pair: both find a dot that lies about in the images, and what one adds to a class the other takes away,
  so that each alone seems to matter and both together do not;
- *copies* of true parts (variant ``copies``): the same map at another scale, each carrying half of what is read;
- *trained* filters (variant ``trained``), whose weights are filled in by `neurochains.measures.planted_trained`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurochains.measures.planted_designs import Design
from neurochains.measures.planted_units import GAIN, INPUT, Tap, Unit, conjunction, relay, scaled, template

__all__ = ["COPY", "MARGIN", "TRAINED", "TRAINED_CLASSES", "Wiring", "wire"]

MARGIN = 4.0  # of the logits, between the right class and the next
COPY = "copy of "
SHADOW, SILENT, OPPOSED = "shadow of ", "silent ", "opposed "
WAITING, IDLE = "waiting for ", "idle over "  # on channels of the stream that the other layer of it uses
RELAY = "relay of "
TRAINED, TRAINED_CLASSES = "trained ", ("stripes", "blob", "frame")
_TRAINED_EACH = 5  # filters of a layer
_OPPOSED_WEIGHT = 6.0
_EDGES, _CORNERS, _RELAYS, _SHAPES = "edges", "corners", "relays", "shapes"


@dataclass(frozen=True, slots=True)
class Wiring:
    """Units by layer, in the order of their channels, and the logits that read the last layer.

    `relays`, present in the residual variant alone, shares its channels with `edges`: one stream.
    """

    layers: Mapping[str, tuple[Unit, ...]]
    logits: tuple[Unit, ...]

    def place(self, name: str) -> tuple[str, int]:
        """Return the layer and the channel of a unit."""
        found = [(layer, [unit.name for unit in units]) for layer, units in self.layers.items()]
        return next((layer, names.index(name)) for layer, names in found if name in names)

    def channels(self, *layers: str) -> dict[str, int]:
        """Return the channel of every unit of some layers that share their channels."""
        return {unit.name: place for layer in layers for place, unit in enumerate(self.layers[layer])}

    def circuit(self, shape: str) -> frozenset[str]:
        """Return the names of the true parts that a shape is built from, itself and all copies included."""
        units = {unit.name: unit for layer in self.layers.values() for unit in layer}
        reached, waiting = set(), [shape, COPY + shape]
        while waiting:
            name = waiting.pop()
            if name in units and name not in reached and not name.startswith((SHADOW, SILENT, OPPOSED, WAITING)):
                reached.add(name)
                waiting += [tap.source for tap in units[name].taps]
        return frozenset(reached)


def wire(variant: str, design: Design, dice: np.random.Generator) -> Wiring:
    """Return the wiring of a variant, with decoys and channels drawn at random."""
    layers = _true_layers(variant, design)
    logits = _logits(design)
    if variant == "copies":
        layers, logits = _with_copies(layers, logits, design)
    layers = {name: [*units] for name, units in layers.items()}
    for name, units in layers.items():
        _add_decoys(units, design, variant, name, dice)
    if variant == "residual":
        _share_stream(layers)
    layers, logits = _read_silent(layers, logits, dice)
    if variant == "trained":
        for name, units in layers.items():
            units += [Unit(f"{TRAINED}{name} {number}", (), 0.0) for number in range(_TRAINED_EACH)]
        logits += [Unit(f"logit of {name}", (), -2 * MARGIN) for name in TRAINED_CLASSES]
    return Wiring(_shuffled(layers, dice), tuple(logits))


def _true_layers(variant: str, design: Design) -> dict[str, list[Unit]]:
    """Return the units of all circuits, those of classes that are not asked for too, and the opposed pair."""
    edges = [template(glyph, glyph) for glyph in (*design.edges, "dot")]
    corners = [conjunction(name, [(a, 0, -2), (b, 0, 2)]) for name, (a, b) in design.corners.items()]
    corners.append(relay(RELAY + "dot", "dot"))
    holding = ()
    if variant == "inhibition":
        edges.append(template("mark", "mark"))
        corners.append(relay(RELAY + "mark", "mark", right=2))
        holding = (Tap(RELAY + "mark", -3 * GAIN, 0, 4),)
    layers = {_EDGES: edges, _CORNERS: corners}
    if variant == "residual":
        layers[_RELAYS] = [relay(RELAY + unit.name, unit.name) for unit in corners]
    behind = RELAY if variant == "residual" else ""
    shapes = [conjunction(shape, _shape_parts(design, shape, behind), without=holding) for shape in design.shapes]
    dot = behind + RELAY + "dot"
    layers[_SHAPES] = [*shapes, relay(OPPOSED + "one", dot), relay(OPPOSED + "other", dot)]
    return layers


def _shape_parts(design: Design, shape: str, behind: str) -> list[tuple[str, int, int]]:
    """Return what a shape is a conjunction of; names of corners get a prefix where a relay hands them on."""
    upper, lower = design.shapes[shape]
    below = [(lower[0], 2, -2), (lower[1], 2, 2)] if isinstance(lower, tuple) else [(behind + lower, 2, 0)]
    return [(behind + upper, -2, 0), *below]


def _logits(design: Design) -> list[Unit]:
    """Return one unit for each output: "nothing", which wins where no shape is found, and the shapes."""
    found = [Unit(f"logit of {shape}", (Tap(shape, 2 * MARGIN),), 0.0) for shape in design.shapes]
    pair = (Tap(OPPOSED + "one", _OPPOSED_WEIGHT), Tap(OPPOSED + "other", -_OPPOSED_WEIGHT))
    found[0] = replace(found[0], taps=(*found[0].taps, *pair))
    return [Unit("logit of nothing", (), MARGIN), *found]


def _with_copies(
    layers: dict[str, list[Unit]], logits: list[Unit], design: Design
) -> tuple[dict[str, list[Unit]], list[Unit]]:
    """Return layers and logits in which one edge, one corner and one shape have a copy at another scale."""
    shape = design.asked_shapes[0]
    upper = design.shapes[shape][0]
    chosen = {_EDGES: (design.rows(shape)[0][0], 1.0), _CORNERS: (upper, 1.5), _SHAPES: (shape, 0.5)}
    factors = dict(chosen.values())
    doubled = {
        layer: [*units, *(scaled(unit, COPY + unit.name, factors[unit.name]) for unit in units if unit.name in factors)]
        for layer, units in layers.items()
    }
    shared = {layer: [_split(unit, factors) for unit in units] for layer, units in doubled.items()}
    return shared, [_split(unit, factors) for unit in logits]


def _split(unit: Unit, factors: Mapping[str, float]) -> Unit:
    """Return a unit that reads half of what it read from the original and half from the copy."""
    taps: list[Tap] = []
    for tap in unit.taps:
        if tap.source not in factors:
            taps.append(tap)
            continue
        copied = tap.weight / 2 / factors[tap.source]
        taps += [replace(tap, weight=tap.weight / 2), replace(tap, source=COPY + tap.source, weight=copied)]
    return Unit(unit.name, tuple(taps), unit.bias)


def _add_decoys(units: list[Unit], design: Design, variant: str, layer: str, dice: np.random.Generator) -> None:
    """Fill a layer up to its width: shadows of true parts and silent filters in turn, at least one of each."""
    if variant == "residual" and layer == _RELAYS:
        return  # it is as wide as the stream
    free = max(design.width - len(units), 2)
    true = [unit for unit in units if not unit.name.startswith((OPPOSED, RELAY, COPY)) and unit.name != "dot"]
    shown = dice.permutation(len(true))[: (free + 1) // 2]
    shadows = [replace(true[place], name=f"{SHADOW}{true[place].name}") for place in shown.tolist()]
    silent = [_silent(f"{SILENT}{layer} {number}", dice) for number in range(free - len(shadows))]
    units += [*shadows, *silent]


def _silent(name: str, dice: np.random.Generator) -> Unit:
    """Return a filter that never answers; what it reads is filled in with its layer's inputs."""
    return Unit(name, (), -float(dice.uniform(12, 20)))


def _share_stream(layers: dict[str, list[Unit]]) -> None:
    """Give the stem a silent filter on the channel of each relay, and the block an idle one on that of each edge."""
    edges, relays = layers[_EDGES], layers[_RELAYS]
    waiting = [Unit(f"{WAITING}{unit.name}", (), -12.0) for unit in relays]
    idle = [Unit(f"{IDLE}{unit.name}", (), 0.0) for unit in edges]
    layers[_EDGES], layers[_RELAYS] = [*edges, *waiting], [*idle, *relays]


def _read_silent(
    layers: dict[str, list[Unit]], logits: list[Unit], dice: np.random.Generator
) -> tuple[dict[str, list[Unit]], list[Unit]]:
    """Return layers and logits in which silent filters are read like any other, and read something themselves."""
    before, done = [INPUT], {}
    for layer, units in layers.items():
        if layer == _SHAPES and _RELAYS in layers:
            before = [unit.name for unit in layers[_EDGES]]  # the stream; what waits there is silent no more
        quiet = [name for name in before if name.startswith(SILENT)]
        reach = 0 if layer == _RELAYS else 1
        done[layer] = [
            _held_down(_reading(unit, before, reach, dice))
            if unit.name.startswith((SILENT, WAITING))
            else _reading(unit, quiet, reach, dice)
            for unit in units
        ]
        before = [unit.name for unit in units]
    quiet = [name for name in before if name.startswith(SILENT)]
    return done, [_reading(unit, quiet, 0, dice) for unit in logits]


def _reading(unit: Unit, sources: Sequence[str], reach: int, dice: np.random.Generator) -> Unit:
    """Return a unit that reads some sources more, with random weights at random places."""
    further = [Tap(name, float(dice.normal(0, 1)), *dice.integers(-reach, reach + 1, 2).tolist()) for name in sources]
    return replace(unit, taps=(*unit.taps, *further))


def _held_down(unit: Unit) -> Unit:
    """Return a unit whose weights are at most 0, so that no score of what it reads can wake it."""
    return replace(unit, taps=tuple(replace(tap, weight=-abs(tap.weight)) for tap in unit.taps))


def _shuffled(layers: Mapping[str, Sequence[Unit]], dice: np.random.Generator) -> dict[str, tuple[Unit, ...]]:
    """Return layers in a random order of channels; layers of one stream keep the same."""
    orders: dict[int | str, Iterable[int]] = {}
    shared = {_EDGES: "stream", _RELAYS: "stream"} if _RELAYS in layers else {}
    for layer, units in layers.items():
        orders.setdefault(shared.get(layer, layer), dice.permutation(len(units)).tolist())
    return {layer: tuple(units[place] for place in orders[shared.get(layer, layer)]) for layer, units in layers.items()}
