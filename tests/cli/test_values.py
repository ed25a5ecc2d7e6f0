from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurochains.cli.values import one_target, parse_shape, parse_size, spread
from neurochains.errors import SettingsError

WORDS = st.text("abc=x", min_size=1, max_size=3).filter(lambda word: not word.startswith("-"))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("--classes a b --out c", "--classes a --classes b --out c"),
        ("--classes=a b", "--classes=a --classes b"),
        ("--classes a --classes b c", "--classes a --classes b --classes c"),
        ("run --out c d", "run --out c d"),
        ("--classes a -o c d", "--classes a -o c d"),
        ("--classes a -- b c", "--classes a -- b c"),
        ("--classes", "--classes"),
    ],
)
def test_a_flag_is_repeated_before_each_of_its_values(given, wanted):
    assert list(spread(given.split(), {"--classes"})) == wanted.split()


@given(st.lists(WORDS, min_size=1), st.lists(WORDS))
def test_every_value_after_a_flag_belongs_to_it(values, before):
    found = list(spread([*before, "--mean", *values], {"--mean"}))
    assert found[: len(before)] == before
    assert found[len(before) :: 2] == ["--mean"] * len(values)
    assert found[len(before) + 1 :: 2] == values


@pytest.mark.parametrize(
    ("text", "size"), [("150", 150), ("0.25", 0.25), ("10%", 0.1), ("2.5 %", 0.025), ("1", 1), ("1.0", 1.0)]
)
def test_a_size_is_a_number_or_a_share(text, size):
    assert parse_size(text) == size
    assert type(parse_size(text)) is type(size)


def test_what_is_no_size_is_refused():
    with pytest.raises(SettingsError, match=r"--size must be a number of filters \(150\) or a share .* got 'many'"):
        parse_size("many")


@pytest.mark.parametrize(
    ("text", "shape"),
    [("64", (None, 64, 64)), ("64x32", (None, 64, 32)), ("64,32", (None, 64, 32)), ("1x28x30", (1, 28, 30))],
)
def test_an_input_size_has_one_to_three_numbers(text, shape):
    assert parse_shape(text) == shape


@pytest.mark.parametrize("text", ["", "x", "3x", "1x2x3x4", "-5", "2.5"])
def test_what_is_no_input_size_is_refused(text):
    with pytest.raises(SettingsError, match="--input-size must be SIDE, HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH"):
        parse_shape(text)


def test_an_extraction_aims_at_one_thing():
    assert one_target(fidelity=None, size=None, agreement=None) == {}
    assert one_target(fidelity=0.0, size=None, agreement=None) == {"fidelity": 0.0}
    assert one_target(fidelity=None, size="10%", agreement=None) == {"size": 0.1}
    with pytest.raises(SettingsError, match="--fidelity and --agreement cannot be had at once"):
        one_target(fidelity=0.1, size=None, agreement=0.9)
