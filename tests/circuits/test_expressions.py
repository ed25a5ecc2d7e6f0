from __future__ import annotations

import ast
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.circuits.expressions import DEEPEST, MOST_CHARACTERS, MOST_TERMS, parse
from neurochains.errors import ExpressionError, SettingsError

VALUES = {
    "tiger": np.array([1.0, 2.0, 0.0]),
    "overall": np.array([0.5, 4.0, 0.0]),
    "Border Collie": np.array([3.0, 3.0, 3.0]),
    "photo.jpg": np.array([0.0, 1.0, 2.0]),
}


def value(text: str) -> list[float]:
    return parse(text).evaluate(VALUES.__getitem__).tolist()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tiger", [1, 2, 0]),
        ("tiger - overall", [0.5, -2, 0]),
        ("tiger-overall-tiger", [-0.5, -4, 0]),
        ("tiger + 2 * overall", [2, 10, 0]),
        ("(tiger + 2) * overall", [1.5, 16, 0]),
        ('0.5*("Border Collie" + tiger) + photo.jpg', [2, 3.5, 3.5]),
        ("'Border Collie' / 3", [1, 1, 1]),
        ("-tiger", [-1, -2, 0]),
        ("2 - -tiger", [3, 4, 2]),
        ("- (tiger + 1) * 2", [-4, -6, -2]),
        ("8 / 4 / 2 * tiger", [1, 2, 0]),
        ("1e1*tiger", [10, 20, 0]),
        (".5*tiger", [0.5, 1, 0]),
        ("tiger × 2 − tiger ÷ 2", [1.5, 3, 0]),
        ("tiger / overall", [2, 0.5, 0]),
    ],
)
def test_expressions_mean_what_they_say(text, wanted):
    assert value(text) == wanted


@pytest.mark.parametrize("text", ["n02106662", "photo.jpg", "IMG_01.JPEG", "2x", "0251_n02110341.jpg", "größe", "_a.b"])
def test_a_name_needs_no_quotes(text):
    assert parse(f"{text} - 1").names == (text,)


def test_names_come_once_in_order():
    assert parse("b - a + \"b\" * 'c d/e-1.png'").names == ("b", "a", "c d/e-1.png")


OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def by_python(node: ast.AST) -> np.ndarray | float:
    """Slow, literal: the tree that Python itself reads, walked."""
    if isinstance(node, ast.Expression):
        return by_python(node.body)
    if isinstance(node, ast.BinOp):
        return OPERATIONS[type(node.op)](by_python(node.left), by_python(node.right))
    if isinstance(node, ast.UnaryOp):
        return -by_python(node.operand)
    return node.value if isinstance(node, ast.Constant) else VALUES[node.id]


terms = st.recursive(
    st.sampled_from(["tiger", "overall", "2", "0.5", "3"]),
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("-{}".format, inner),
        st.builds("{} {} {}".format, inner, st.sampled_from("+-*"), inner),
    ),
    max_leaves=12,
)


@given(terms)
@settings(max_examples=150, deadline=None)
def test_precedence_is_that_of_arithmetic(text):
    text = f"tiger + {text}"
    np.testing.assert_allclose(value(text), by_python(ast.parse(text, mode="eval")), rtol=1e-12)


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_an_expression_or_an_expression_error(text):
    try:
        names = parse(text).names
    except ExpressionError as error:
        names = (text,) if error.start is None or error.start <= len(text) else ()
    assert names


@pytest.mark.parametrize(
    ("text", "message", "start"),
    [
        ("tiger - ", 'Wanted a name, a number, "-" or "(", but the expression ends', 8),
        ("tiger * / 2", "but there is '/'", 8),
        ("tiger Collie", 'Names of several words stand in quotes: "Border Collie"', 6),
        ("(tiger - 1", 'Wanted ")" that closes the "(" at position 1, but the expression ends', 10),
        ("tiger)", "but there is ')'", 5),
        ("tiger ** 2", "but there is '*'", 7),
        ("__import__('os')", "but there is '('", 10),
        ("tiger $ 2", "'$' means nothing here", 6),
        ('tiger + "Border', 'This quote " is never closed', 8),
        ('tiger + "  "', "A name is empty", 8),
        ("tiger + 1e999", "This number is too large", 8),
        ("", "Wanted a name", 0),
    ],
)
def test_a_wrong_expression_is_pointed_to(text, message, start):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert caught.value.start == start
    if text:
        assert str(caught.value).splitlines()[-2:] == [
            f"  {text}",
            f"  {' ' * start}{'^' * max(1, caught.value.end - start)} position {start + 1}",
        ]


def test_an_expression_needs_a_name():
    with pytest.raises(SettingsError, match="names no image, class or set"):
        parse("2 + 3")


def test_limits_are_kept():
    assert len(parse("+".join(["a"] * MOST_TERMS)).names) == 1
    with pytest.raises(ExpressionError, match=f"may have {MOST_TERMS} terms"):
        parse("+".join(["a"] * 1000))
    assert parse("(" * DEEPEST + "a" + ")" * DEEPEST).names == ("a",)
    for text in ("(" * 1000 + "a", "-" * 1000 + "a"):
        with pytest.raises(ExpressionError, match=f"nested {DEEPEST} deep"):
            parse(text)
    with pytest.raises(ExpressionError, match=r"may have 4,000 characters; this has 4,001"):
        parse("a" * (MOST_CHARACTERS + 1))


def test_a_long_expression_is_shown_around_the_place():
    with pytest.raises(ExpressionError) as caught:
        parse("a + " * 60 + "$")
    lines = str(caught.value).splitlines()
    assert lines[-2][lines[-1].index("^")] == "$"
    assert len(lines[-2]) < 110


@pytest.mark.parametrize("text", ["tiger / 0", "tiger / (1 - 1)", "0 / 0 + tiger", "overall / photo.jpg"])
def test_division_by_zero_is_an_error(text):
    with pytest.raises(ExpressionError, match="Division by zero: the divisor is 0") as caught:
        value(text)
    assert text[caught.value.start : caught.value.end].strip("()") in ("0", "1 - 1", "photo.jpg")


def test_division_says_for_how_many():
    with pytest.raises(ExpressionError, match=r"is 0 for 1 of 3 filters or kernels. Add a small number to it"):
        value("overall / photo.jpg")


def test_overflow_is_an_error():
    with pytest.raises(ExpressionError, match="too large"):
        value("tiger * 1e300 * 1e300")


def test_an_unknown_name_gets_its_place():
    def unknown(name):
        raise ExpressionError(f"Nothing is called {name}.")

    with pytest.raises(ExpressionError, match=r"Nothing is called b\.\n  1 \+ b") as caught:
        parse("1 + b").evaluate(unknown)
    assert (caught.value.start, caught.value.end) == (4, 5)
