"""The rules of compaction: how each kind of operation runs on the channels that are alive.

A rule is a function ``(builder, node) -> Flow``, entered in `RULES` under the operations that it covers: layers (rows
and columns of the weight), operations on single values, on positions, and on the order of channels.
"""

from __future__ import annotations

from neurochains.edit.rules import layers, moves, places, values
from neurochains.edit.rules.registry import RULES, Rule, rule

__all__ = ["RULES", "Rule", "layers", "moves", "places", "rule", "values"]
