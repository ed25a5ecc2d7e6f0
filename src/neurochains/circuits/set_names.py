"""What sets of images and single images are called in an expression.

``overall`` is the mean over all images. A set is meant by its name, one of its synonyms, its synset or the index of its
output (in quotes: ``"251"``), an image by its name, by the last part of it, or by that without its ending.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Protocol

from neurochains.data.classes import ClassTable, as_index
from neurochains.errors import ExpressionError, did_you_mean

__all__ = ["OVERALL", "NamedSet", "SetNames"]

OVERALL = "overall"
_MOST_SHOWN = 8


class NamedSet(Protocol):
    """A set of images, as far as its names go."""

    @property
    def name(self) -> str:
        """With synonyms, separated by commas."""
        ...

    @property
    def label(self) -> int:
        """The output that it shows; -1 for none."""
        ...

    @property
    def synset(self) -> str | None:
        """Of the class."""
        ...

    @property
    def images(self) -> tuple[str, ...]:
        """The names of its images."""
        ...


class SetNames:
    """Finds sets and images by what people call them."""

    def __init__(self, sets: Sequence[NamedSet]) -> None:
        self._sets = tuple(sets)
        self._table = ClassTable(tuple(s.name for s in sets), tuple(s.synset or "" for s in sets))

    def find(self, text: str) -> int:
        """Return the index of the set that a name means.

        Raises:
            ExpressionError: none is called that (the nearest are listed), or several are.
        """
        found = self.candidates(text)
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(repr(self._sets[index].name) for index in found[:_MOST_SHOWN])
            raise ExpressionError(f"{text!r} names {len(found)} sets of images: {listed}. Name one in full.")
        if self.images(text):
            raise ExpressionError(
                f"{text!r} is a single image, and the bundle holds the importance of sets only. Give the model and the "
                "images as well, and it is measured."
            )
        raise ExpressionError(f"No set of images is called {text!r}. {self.suggestion(text)}")

    def candidates(self, text: str) -> tuple[int, ...]:
        """Return the sets that a name can mean; none if it is no name of a set."""
        found = self._table.candidates(text) if text.strip() else ()
        label = as_index(text)
        if found or label is None:
            return found
        return tuple(index for index, known in enumerate(self._sets) if known.label == label)

    def images(self, text: str) -> tuple[tuple[int, int], ...]:
        """Return (set, image) of the images that a name means: in full, else its last part, else without ending."""
        return next((found for level in self._images if (found := level.get(text))), ())

    def suggestion(self, text: str) -> str:
        """Return the names nearest to a text, or the first few."""
        known = [*self.short, OVERALL]
        near = did_you_mean(re.sub(r"_", " ", text), self._known_words)
        listed = ", ".join(known[:_MOST_SHOWN])
        return near or f"There are: {listed}{', ...' if len(known) > _MOST_SHOWN else '.'}"

    @cached_property
    def short(self) -> tuple[str, ...]:
        """The first synonym of each set."""
        return tuple(known.name.split(",")[0].strip() for known in self._sets)

    @cached_property
    def _known_words(self) -> list[str]:
        words = [part.strip() for known in self._sets for part in known.name.split(",")]
        return [*words, OVERALL, *(known.synset for known in self._sets if known.synset)]

    @cached_property
    def _images(self) -> tuple[dict[str, tuple[tuple[int, int], ...]], ...]:
        places = [
            (PurePosixPath(name), (index, image))
            for index, known in enumerate(self._sets)
            for image, name in enumerate(known.images)
        ]
        keys = (str, lambda path: path.name, lambda path: path.stem)
        return tuple(_grouped((key(path), place) for path, place in places) for key in keys)


def _grouped(pairs: Iterable[tuple[str, tuple[int, int]]]) -> dict[str, tuple[tuple[int, int], ...]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for key, place in pairs:
        found.setdefault(key, []).append(place)
    return {key: tuple(places) for key, places in found.items()}
