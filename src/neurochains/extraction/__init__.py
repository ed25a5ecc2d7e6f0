"""Extraction: from a model and a task to a chain with its certificate, measures and controls."""

from __future__ import annotations

from neurochains.extraction.extract import extract
from neurochains.extraction.follow import Progress

__all__ = ["Progress", "extract"]
