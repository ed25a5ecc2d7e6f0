"""Edits of a network: scores and gates, taps, compaction, and what the doctor finds out about both."""

from __future__ import annotations

from neurochains.edit.compact import CompactNetwork, SubNetwork, compact
from neurochains.edit.controlled import Place, can_be_controlled, control, original_names, place_of
from neurochains.edit.doctor import Diagnosis, examine
from neurochains.edit.kernels import OUTPUT, KernelNetwork, Readout, cut, scale_kernels
from neurochains.edit.scores import ScoredNetwork, TappedNetwork, tap

__all__ = [
    "OUTPUT",
    "CompactNetwork",
    "Diagnosis",
    "KernelNetwork",
    "Place",
    "Readout",
    "ScoredNetwork",
    "SubNetwork",
    "TappedNetwork",
    "can_be_controlled",
    "compact",
    "control",
    "cut",
    "examine",
    "original_names",
    "place_of",
    "scale_kernels",
    "tap",
]
