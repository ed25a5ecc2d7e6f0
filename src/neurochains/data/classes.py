"""Class names: what people and folders call a class, matched to the outputs of a network.

A name is looked up in this order, and the first rule that says anything decides:

1. exactly as the network spells it;
2. as a WordNet synset, such as ``n02110341``;
3. as the whole name, case, spaces, underscores, hyphens and punctuation aside;
4. as the first of the comma-separated synonyms (``"dalmatian, coach dog"``);
5. as any of the synonyms;
6. as the index of an output, such as ``251``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from neurochains.errors import ClassNameError, DataError, did_you_mean

__all__ = ["ClassTable", "as_index", "bare_name", "fold", "synset_in"]

_SYNSET = re.compile(r"(?<![A-Za-z0-9])n\d{8}(?![A-Za-z0-9])")
_LEADING_INDEX = re.compile(r"^(\d+)(?=[\W_])")
_TRAILING_COUNT = re.compile(r"[\W_]+\d+\W*$")
_MOST_SHOWN = 10


def fold(name: str) -> str:
    """Return ``name`` as it is compared: case, spaces, underscores, hyphens and punctuation put aside.

    >>> fold("Jack-o'-Lantern"), fold("great_white_shark")
    ('jack o lantern', 'great white shark')
    """
    folded = re.sub(r"[\W_]+", " ", re.sub(r"['’.]", "", name.casefold())).strip()
    return folded or name.casefold().strip()


def bare_name(text: str) -> str:
    """Return the class name inside a folder or file name, without index, synset and running number.

    >>> bare_name("0251_n02110341_dalmatian"), bare_name("n02110341_17"), bare_name("cat.4001"), bare_name("cat (2)")
    ('dalmatian', '', 'cat', 'cat')
    """
    without = _SYNSET.sub(" ", _LEADING_INDEX.sub("", text))
    return _TRAILING_COUNT.sub("", without).strip(" _-.")


def synset_in(text: str) -> str:
    """Return the synset inside a folder or file name, or ``""``.

    >>> synset_in("0251_n02110341_dalmatian")
    'n02110341'
    """
    match = _SYNSET.search(text)
    return match.group() if match else ""


@dataclass(frozen=True)
class ClassTable:
    """The names and synsets of all outputs of a network, in order; either may be unknown.

    Raises:
        DataError: there are not as many names as synsets.
    """

    names: tuple[str, ...] | None = None
    synsets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.names is not None and self.synsets is not None and len(self.names) != len(self.synsets):
            raise DataError(
                f"Wanted one synset for each class name, but there are {len(self.names)} names and "
                f"{len(self.synsets)} synsets. Pass class_names= and synsets= that belong together."
            )

    @property
    def known(self) -> bool:
        """Whether anything is known about what the outputs mean."""
        return self.names is not None or self.synsets is not None

    @property
    def count(self) -> int:
        """How many outputs the table describes; 0 where nothing is known."""
        return len(self.names or self.synsets or ())

    def find(self, wanted: str | int) -> int:
        """Return the index of the output that ``wanted`` names: a name, a synonym, a synset or an index.

        Raises:
            ClassNameError: nothing is called so (the nearest names are listed), or several outputs are (all are).
        """
        found = self.candidates(wanted) if isinstance(wanted, str) else ()
        if len(found) > 1:
            raise ClassNameError(
                f"{wanted!r} names {len(found)} classes: {self.listed(found)}. Ask for one by synset or index."
            )
        index = found[0] if found else as_index(wanted)
        if index is None or index < 0 or (self.known and index >= self.count):
            raise ClassNameError(self._unknown(str(wanted)))
        return index

    def name(self, index: int) -> str:
        """Return the name of an output, or its synset where only that is known.

        Raises:
            IndexError: the table does not describe so many outputs.
        """
        return (self.names or self.synsets or ())[index]

    def candidates(self, name: str) -> tuple[int, ...]:
        """Return the outputs that ``name`` can mean by rules 1 to 5; none if it is not a name."""
        for key, level in self._levels:
            if found := level.get(key(name)):
                return tuple(found)
        return ()

    def read(self, text: str) -> int | None:
        """Return the output that a folder or file name such as ``0251_n02110341_dalmatian_3`` means, if just one.

        A synset in the text decides; else the whole text as a name; else the name inside it. Where several outputs
        have that name, the index in the text chooses among them, moved by one for networks whose output 0 is
        "background". An index alone says nothing: numbers of files are not classes.
        """
        found = self.candidates(synset_in(text)) or self.candidates(text) or self.candidates(bare_name(text))
        if len(found) > 1:
            found = tuple(index for index in found if index == self._hinted(text))
        return found[0] if found else None

    def suggestion(self, name: str) -> str:
        """Return ``"Did you mean a, b?"`` with the nearest names of outputs, or ``""``."""
        words = [part.strip() for whole in self.names or () for part in whole.split(",")]
        return did_you_mean(re.sub(r"[\W_]+", " ", name).strip(), words)

    @cached_property
    def _levels(self) -> tuple[tuple[Callable[[str], str], dict[str, list[int]]], ...]:
        """What a name is compared as, and the outputs by that, for rules 1 to 5."""
        names = self.names or ()
        return (
            (str, _by_key((name, index) for index, name in enumerate(names))),
            (str.casefold, _by_key((synset.casefold(), index) for index, synset in enumerate(self.synsets or ()))),
            (fold, _by_key((fold(name), index) for index, name in enumerate(names))),
            (fold, _by_key((fold(name.split(",")[0]), index) for index, name in enumerate(names))),
            (fold, _by_key((fold(part), index) for index, name in enumerate(names) for part in name.split(","))),
        )

    def _hinted(self, text: str) -> int:
        """Return the output that the index at the start of ``text`` points to, or -1."""
        match = _LEADING_INDEX.match(text)
        background = bool(self.names) and fold(self.names[0]) == "background"
        return int(match.group(1)) + background if match else -1

    def listed(self, indices: Sequence[int]) -> str:
        """Return outputs with what is known of them, for messages."""
        shown = [f"{index} ({self.described(index)})" for index in indices[:_MOST_SHOWN]]
        return ", ".join(shown) + (", ..." if len(indices) > _MOST_SHOWN else "")

    def described(self, index: int) -> str:
        """Return the synset and the name of an output, as far as they are known."""
        parts = [table[index] for table in (self.synsets, self.names) if table is not None]
        return " ".join(parts)

    def _unknown(self, wanted: str) -> str:
        if not self.known:
            return (
                f"No class can be found as {wanted!r}, because the names of the network's outputs are not known. "
                "Pass class_names= with one name for each output."
            )
        return (
            f"No class is called {wanted!r} among the {self.count} outputs of the network. "
            f"{self.suggestion(wanted) or f'Ask by name, synset or index (0 to {self.count - 1}).'}"
        )


def as_index(wanted: str | int) -> int | None:
    """Return the index that a number or a string of digits is, or None.

    >>> as_index("251"), as_index("dalmatian")
    (251, None)
    """
    if not isinstance(wanted, str):
        return operator.index(wanted)
    return int(wanted) if re.fullmatch(r"[0-9]{1,9}", wanted) else None


def _by_key(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Return the indices of each key, each index once and in order."""
    table: dict[str, list[int]] = {}
    for key, index in pairs:
        indices = table.setdefault(key, [])
        if index not in indices:
            indices.append(index)
    return table
