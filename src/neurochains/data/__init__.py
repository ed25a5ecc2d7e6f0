"""Images in: from folders, files, arrays and tensors, and the built-in shapes data."""

from __future__ import annotations

from neurochains.data.task import Task

__all__ = ["Task"]
