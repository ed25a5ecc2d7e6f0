"""Edits of a network: scores and gates, taps, compaction, and what the doctor finds out about both."""

from __future__ import annotations

from neurochains.edit.compact import CompactNetwork, SubNetwork, compact
from neurochains.edit.doctor import Diagnosis, examine
from neurochains.edit.kernels import OUTPUT, KernelNetwork, Readout, cut, scale_kernels
from neurochains.edit.scores import ScoredNetwork, TappedNetwork, tap

__all__ = [
    "OUTPUT",
    "CompactNetwork",
    "Diagnosis",
    "KernelNetwork",
    "Readout",
    "ScoredNetwork",
    "SubNetwork",
    "TappedNetwork",
    "compact",
    "cut",
    "examine",
    "scale_kernels",
    "tap",
]
