"""Which classes go together in a task: pairs, or groups of any size, that are listed, all there are, or drawn.

Only names are read here, so that a plan can be counted before anything is run.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from neurochains.errors import DataError, SettingsError, did_you_mean
from neurochains.studies.plan import Tasks

__all__ = ["Group", "count_groups", "groups", "planted_names"]

Group = tuple[str | int, ...]


def groups(tasks: Tasks, root: Path) -> Iterator[Group]:
    """Yield the classes of each task, in an order that is always the same; of planted networks, their names.

    Args:
        tasks: an entry of a plan.
        root: the folder that relative paths start from.

    Raises:
        DataError: the folder cannot be read, or has too few classes with enough images.
        SettingsError: there is no such planted network.
    """
    if tasks.planted is not None:
        yield from ((name,) for name in planted_names(tasks))
    elif isinstance(tasks.pairs, tuple):
        yield from tasks.pairs
    elif tasks.pairs == "all":
        yield from itertools.combinations(_classes(tasks, root), tasks.each)
    else:
        yield from _drawn(_classes(tasks, root), int(tasks.pairs), tasks)


def count_groups(tasks: Tasks, root: Path) -> int:
    """Return how many tasks `groups` yields, without making them."""
    if tasks.planted is not None:
        return len(planted_names(tasks))
    if isinstance(tasks.pairs, tuple):
        return len(tasks.pairs)
    total = math.comb(len(_classes(tasks, root)), tasks.each)
    return total if isinstance(tasks.pairs, str) else min(tasks.pairs, total)


def planted_names(tasks: Tasks) -> tuple[str, ...]:
    """Return the names of an entry's planted networks.

    Raises:
        SettingsError: there is no such network; names the nearest.
    """
    from neurochains.measures.planted import planted_names as every  # it imports torch

    known = every()
    wanted = (tasks.planted,) if isinstance(tasks.planted, str) else tasks.planted or ()
    if wanted == ("all",):
        return known
    for name in wanted:
        if name not in known:
            raise SettingsError(f"No planted network is called {name!r}. {did_you_mean(name, known)}".rstrip())
    return wanted


def _classes(tasks: Tasks, root: Path) -> tuple[str | int, ...]:
    """Return the classes that groups are made of: those asked for, or all that have enough images."""
    if tasks.shapes:
        from neurochains.shapes_spec import CLASSES

        found: Sequence[str | int] = tasks.classes or CLASSES
    else:
        found = tasks.classes or _folder_classes(tasks, root)
    if len(found) < tasks.each:
        raise DataError(
            f"Wanted tasks of {tasks.each} classes, but {tasks.images or 'the shapes'} has {len(found)} with at least "
            f"{max(tasks.sizes) + tasks.held_out} images. Ask for fewer images with per_class and held_out."
        )
    return tuple(found)


def _folder_classes(tasks: Tasks, root: Path) -> list[str]:
    """Return the classes of a folder that have enough images, sorted by name."""
    from neurochains.data.classes import ClassTable
    from neurochains.data.folders import scan

    layout = scan(root / str(tasks.images), ClassTable())
    enough = max(tasks.sizes) + tasks.held_out
    return sorted(group.name for group in layout.groups if group.name and len(group.files) >= enough)


def _drawn(classes: Sequence[str | int], wanted: int, tasks: Tasks) -> list[Group]:
    """Return so many different groups, drawn at random by the entry's seed; a larger draw contains a smaller."""
    most = min(wanted, math.comb(len(classes), tasks.each))
    generator = random.Random(f"groups {tasks.draws[0]}")  # noqa: S311 - a draw, no secret
    chosen: dict[tuple[int, ...], None] = {}
    while len(chosen) < most:
        chosen[tuple(sorted(generator.sample(range(len(classes)), tasks.each)))] = None
    return [tuple(classes[at] for at in group) for group in chosen]
