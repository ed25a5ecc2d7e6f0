from __future__ import annotations

import sys

import pytest

from neurochains import memory
from neurochains.memory import MOST, USUAL, kept_memory


class Library:
    """Stands in for the C library, and notes what it is told."""

    def __init__(self):
        self.told = []

    def mallopt(self, option, value):
        self.told.append((option, value))
        return 1

    def malloc_trim(self, pad):
        self.told.append("trim")
        return 1


@pytest.fixture
def library(monkeypatch):
    found = Library()
    monkeypatch.setattr(memory, "_glibc", lambda: found)
    return found


def test_memory_is_kept_inside_and_given_back_behind(library):
    with kept_memory():
        assert library.told == [(option, MOST) for option in USUAL]
    assert library.told[len(USUAL) :] == [*USUAL.items(), "trim"]


def test_it_is_given_back_after_a_failure(library):
    with pytest.raises(KeyError), kept_memory():
        raise KeyError
    assert library.told[-1] == "trim"
    with kept_memory():
        pass
    assert library.told.count("trim") == 2


def test_an_inner_block_leaves_it_to_the_outer(library):
    with kept_memory():
        before = list(library.told)
        with kept_memory():
            pass
        assert library.told == before


def test_where_the_library_has_no_such_setting_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with kept_memory():
        pass
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory._glibc() is None
