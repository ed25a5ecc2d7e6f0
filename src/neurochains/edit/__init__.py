"""Edits of a network: scores and gates, taps, compaction, and what the doctor finds out about both."""

from __future__ import annotations

from neurochains.edit.compact import CompactNetwork, SubNetwork, compact
from neurochains.edit.doctor import Diagnosis, examine
from neurochains.edit.scores import ScoredNetwork, TappedNetwork, tap

__all__ = [
    "CompactNetwork",
    "Diagnosis",
    "ScoredNetwork",
    "SubNetwork",
    "TappedNetwork",
    "compact",
    "examine",
    "tap",
]
