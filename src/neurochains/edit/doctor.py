"""What the doctor says: how a model was understood, and whether what was written down computes what the model computes.

1. Trace the model and compare its outputs with the original ones.
2. List layers, blocks, and the operations that have no rule.
3. Keep 30 % of the scored units, at random, and compare the compact with the scored network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurochains.edit.compact import compact
from neurochains.edit.scores import ScoredNetwork
from neurochains.errors import LayerError
from neurochains.network.attention import find_attentions, other_attention
from neurochains.network.costs import Costs
from neurochains.network.layers import Layer
from neurochains.network.network import Network
from neurochains.network.outputs import logits_of, output_path
from neurochains.network.parity import Parity, measure_parity
from neurochains.network.prepare import prepare
from neurochains.network.tokens import Tokens, find_tokens

__all__ = ["BlockReport", "Diagnosis", "LayerReport", "TransformerReport", "examine"]

_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer in plain numbers; `receptive_field` is its height and width in pixels of the input."""

    name: str
    label: str
    kind: str
    role: str
    units: int
    inputs: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    map_size: tuple[int, int] | None
    receptive_field: tuple[int, int]


@dataclass(frozen=True, slots=True)
class BlockReport:
    """One skippable block and the layers in it."""

    name: str
    label: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TransformerReport:
    """What was recognised of a transformer.

    Attributes:
        attentions: how many.
        fused: how many of them are one operation, so that their maps are computed only for pictures.
        mixed: how many exchange maps between heads.
        heads: of each attention; 0 where heads cannot be told from images.
        special: tokens before the patches: class, distillation, register tokens; None without patches.
        grid: rows and columns of patches; None where patches cannot be scored.
        blocks: in which patches may be dropped.
        reason: why patches cannot be scored; empty where they can.
    """

    attentions: int
    fused: int
    mixed: int
    heads: tuple[int, ...]
    special: int | None
    grid: tuple[int, int] | None
    blocks: int
    reason: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """How a model was understood.

    Attributes:
        model: the class of the model.
        input_shape: ``(C, H, W)``.
        output: where the logits are in what the model returns, such as ``"output.logits"``.
        outputs: the number of logits.
        layers, blocks: in order of execution.
        filters, hidden: the units of filter layers, and of the other layers that may be scored.
        transformer: attention and tokens; None for a network without attention.
        kernels: the pairs (input channel, filter) of the filter layers, input channels per group.
        without_rule: by operation that has no rule, how often it occurs; it is handled as all-to-all.
        traced: the traced against the original outputs.
        compacted: the compact against the scored network on a random 30 % of the units, those of heads and hidden
            layers included in a transformer; None where not asked for.
        costs: of the whole network.
        warnings: what a user should know, in sentences.
    """

    model: str
    input_shape: tuple[int, ...]
    output: str
    outputs: int
    layers: tuple[LayerReport, ...]
    blocks: tuple[BlockReport, ...]
    filters: int
    hidden: int
    kernels: int
    without_rule: dict[str, int]
    traced: Parity
    compacted: Parity | None
    costs: Costs
    warnings: tuple[str, ...]
    transformer: TransformerReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as plain lists, dicts, strings and numbers."""
        return dataclasses.asdict(self)

    def lines(self) -> tuple[tuple[str, str], ...]:
        """Return the summary as (what, value) pairs, layers and blocks as their numbers."""
        return tuple(_lines(self))


def examine(model: nn.Module, example: Tensor, *, compaction: bool = True, seed: int = 0) -> Diagnosis:
    """Return how a model is understood, and whether the traced and the compact network compute what they should.

    Args:
        model: in eval mode; it is not changed.
        example: ``(B, C, H, W)`` as the model expects it. Parity is measured on these images.
        compaction: also compare the compact with the scored network, which takes about as long as tracing.
        seed: which 30 % of the units are kept for that.

    Raises:
        ModelError: the model cannot be used; says why and what to do.
    """
    network = Network.trace(model, example)
    inner, images = prepare(model), network.check(example.detach())
    with torch.no_grad():
        answer = inner(images)
        traced = measure_parity(logits_of(answer), network(images))
        compacted = _compaction_parity(network, images, seed) if compaction and _scored(network) else None
    return Diagnosis(
        model=type(inner).__name__,
        input_shape=network.input_shape,
        output=output_path(answer),
        outputs=network.outputs,
        layers=tuple(_layer_report(network, layer) for layer in network.layers),
        blocks=tuple(BlockReport(block.name, block.label, block.layers) for block in network.blocks),
        filters=_units(network.layers, "filter"),
        hidden=_units(network.layers, "hidden"),
        kernels=sum(layer.units * layer.inputs // layer.groups for layer in network.layers if layer.role == "filter"),
        without_rule=dict(network.provenance.without_rule),
        traced=traced,
        compacted=compacted,
        costs=network.costs(),
        warnings=tuple(_warnings(network)),
        transformer=_transformer_report(network),
    )


def _transformer_report(network: Network) -> TransformerReport | None:
    attentions = find_attentions(network.module.graph)
    if not attentions:
        return None
    found = find_tokens(network.module)
    known = found if isinstance(found, Tokens) else None
    return TransformerReport(
        attentions=len(attentions),
        fused=sum(attention.fused for attention in attentions),
        mixed=sum(attention.mixed for attention in attentions),
        heads=tuple(attention.heads for attention in attentions),
        special=known.special if known else None,
        grid=known.grid if known else None,
        blocks=len(known.blocks) if known else 0,
        reason="" if isinstance(found, Tokens) else found.reason,
    )


def _scored(network: Network) -> tuple[Layer, ...]:
    try:
        return network.scored(("filters", "hidden", "heads") if network.heads else ("filters",))
    except LayerError:
        return ()


def _compaction_parity(network: Network, images: Tensor, seed: int) -> Parity:
    generator = torch.Generator().manual_seed(seed)
    layers = _scored(network)
    keep = {layer.name: torch.rand(layer.units, generator=generator) < _SHARE for layer in layers}
    scores = {name: mask.to(network.device, torch.float32) for name, mask in keep.items()}
    original = ScoredNetwork(network, layers=layers)(images, scores)[0]
    return measure_parity(original, compact(network, keep)(images))


def _layer_report(network: Network, layer: Layer) -> LayerReport:
    own = {field.name: getattr(layer, field.name) for field in dataclasses.fields(LayerReport)[:-1]}
    return LayerReport(**own, receptive_field=network.receptive_field(layer.name).size)


def _units(layers: Sequence[Layer], role: str) -> int:
    return sum(layer.units for layer in layers if layer.role == role)


def _warnings(network: Network) -> Iterator[str]:
    reused = {layer.name.split("@")[0] for layer in network.layers if layer.call}
    if reused:
        yield f"Reused modules, each call a layer of its own: {_listing(reused)}."
    if not _scored(network):
        yield "No layer makes units that can be scored, so no sub-network can be extracted."
    elif not _units(network.layers, "filter"):
        yield "No convolution: the hidden units of linear layers are scored."
    others = other_attention(network.module.graph)
    if others:
        yield f"{others}. In these no heads can be scored."
    modulations = [layer for layer in network.layers if layer.role == "modulation"]
    if modulations:
        yield f"{len(modulations)} layers only rescale channels (squeeze-and-excitation); they are kept as they are."
    if not any(layer.role == "head" for layer in network.layers):
        yield "No single layer makes the outputs: every layer is scored, the last ones included."


def _listing(names: set[str], most: int = 5) -> str:
    first = sorted(names)
    return ", ".join(first[:most]) + (f" and {len(first) - most} more" if len(first) > most else "")


def _lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    yield "model", found.model
    yield "input", " x ".join(map(str, found.input_shape))
    yield "outputs", f"{found.outputs} in {found.output}"
    yield "layers", f"{len(found.layers)} ({', '.join(_roles(found.layers))})"
    yield "filters", f"{found.filters:,}" + (f" and {found.hidden:,} hidden units" if found.hidden else "")
    yield "kernels", f"{found.kernels:,}"
    if found.transformer:
        yield "attention", _attention_words(found.transformer)
        yield "tokens", _token_words(found.transformer)
    yield "blocks", str(len(found.blocks))
    yield "cost", f"{found.costs.macs:,} MACs, {found.costs.parameters:,} parameters"
    yield "without a rule", ", ".join(f"{name} ({count})" for name, count in found.without_rule.items()) or "nothing"
    yield "traced against original", _difference(found.traced)
    if found.compacted is not None:
        yield "compact against scored", _difference(found.compacted)
    for warning in found.warnings:
        yield "note", warning


def _attention_words(found: TransformerReport) -> str:
    kinds = [f"{found.fused} fused"] * bool(found.fused)
    kinds += [f"{found.attentions - found.fused} written out"] * (found.fused < found.attentions)
    kinds += [f"{found.mixed} with heads that mix"] * bool(found.mixed)
    heads = sorted(set(found.heads) - {0})
    if not heads:
        return f"{found.attentions} ({', '.join(kinds)}), whose heads cannot be scored"
    counts = f"{heads[0]}" if len(heads) == 1 else f"{heads[0]} to {heads[-1]}"
    return f"{found.attentions} ({', '.join(kinds)}), {counts} heads each"


def _token_words(found: TransformerReport) -> str:
    if found.grid is None:
        return f"patches cannot be scored: {found.reason}"
    rows, columns = found.grid
    return f"{found.special} special and {rows} x {columns} patches, read in {found.blocks} blocks"


def _roles(layers: Sequence[LayerReport]) -> Iterator[str]:
    for role in ("filter", "hidden", "projection", "modulation", "head"):
        count = sum(layer.role == role for layer in layers)
        if count:
            yield f"{count} {role}"


def _difference(parity: Parity) -> str:
    return f"differ by {parity.difference:.2g}, {parity.relative:.2g} of the logit range"
