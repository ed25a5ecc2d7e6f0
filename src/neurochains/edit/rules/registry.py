"""The register of rules, by the operation that they cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from neurochains.edit.builder import Builder

__all__ = ["RULES", "Rule", "rule"]

Rule = Callable[[Builder, fx.Node], Any]
"""Writes one operation of the original graph into the compact one; returns its `Flow`, or one for each output."""

RULES: dict[Any, Rule] = {}


def rule(*targets: Any) -> Callable[[Rule], Rule]:
    """Enter a rule under the operations that it covers."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(targets, function))
        return function

    return enter
