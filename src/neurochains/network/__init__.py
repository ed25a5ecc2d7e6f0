"""What a network is: its graph, layers, blocks and provenance; what it costs; the models that the zoo knows by name."""

from __future__ import annotations

from neurochains.network.blocks import Block
from neurochains.network.costs import Costs, measure_costs, measure_seconds
from neurochains.network.fields import ReceptiveField
from neurochains.network.layers import Filter, Layer
from neurochains.network.network import Kernels, Network
from neurochains.network.zoo import ModelInfo, load_model, model_info

__all__ = [
    "Block",
    "Costs",
    "Filter",
    "Kernels",
    "Layer",
    "ModelInfo",
    "Network",
    "ReceptiveField",
    "load_model",
    "measure_costs",
    "measure_seconds",
    "model_info",
]
