"""Expressions over images, classes and image sets: ``tiger - overall``, ``0.5 * ("Border Collie" + n02106662)``.

The grammar, read by recursive descent; nothing is ever evaluated as code::

    expression  =  term  { ("+" | "-") term }
    term        =  factor  { ("*" | "/") factor }
    factor      =  "-" factor  |  "(" expression ")"  |  number  |  name  |  '"' any characters '"'

A name is a run of letters, digits, "_" and "." that is no number: ``tiger``, ``n02106662``, ``photo.jpg``. Names with
spaces, hyphens or slashes stand in quotes, single or double. What a name means is the caller's to say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neurochains.errors import ExpressionError

__all__ = ["Expression", "Name", "Negation", "Node", "Number", "Operation", "parse"]

MOST_CHARACTERS = 4000
MOST_TERMS = 200
DEEPEST = 50

Array = NDArray[np.float64]
Sign = Literal["+", "-", "*", "/"]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<name>\w[\w.]*)
      | "(?P<double>[^"]*)" | '(?P<single>[^']*)'
      | (?P<sign>[-+*/()−×÷])
    )""",
    re.VERBOSE,
)
_SIGNS = {"−": "-", "×": "*", "÷": "/"}
_START = 'a name, a number, "-" or "("'


@dataclass(frozen=True, slots=True)
class Number:
    """A number, and where it stands in the text."""

    value: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Name:
    """The name of an image, a class or a set, without its quotes, and where it stands."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Negation:
    """``-operand``."""

    operand: Node
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Operation:
    """``left sign right``; `start` and `end` span both."""

    sign: Sign
    left: Node
    right: Node
    start: int
    end: int


Node = Number | Name | Negation | Operation


@dataclass(frozen=True, slots=True)
class Expression:
    """A text that was parsed."""

    text: str
    root: Node

    @property
    def names(self) -> tuple[str, ...]:
        """The names in it, in order of appearance, each once."""
        return tuple(dict.fromkeys(node.text for node in _walk(self.root) if isinstance(node, Name)))

    def evaluate(self, values: Callable[[str], Array]) -> Array:
        """Return the value of the expression, element by element; 0 / 0 counts as 0.

        Args:
            values: from a name to its array; all of one shape. What it raises as `ExpressionError` without a place is
                given the place of the name.

        Raises:
            ExpressionError: something that is not 0 is divided by 0, or a result is not finite.
        """
        result = np.asarray(_Evaluation(self.text, values).of(self.root))
        if not np.isfinite(result).all():
            raise ExpressionError("The result is too large to be a number.", text=self.text)
        return result


def parse(text: str) -> Expression:
    """Return the expression that a text spells.

    >>> parse('0.5 * ("Border Collie" + n02106662) - photo.jpg').names
    ('Border Collie', 'n02106662', 'photo.jpg')

    Raises:
        ExpressionError: it is none, or too long, too deep or of too many terms; the message points to the place.
    """
    if len(text) > MOST_CHARACTERS:
        raise ExpressionError(
            f"An expression may have {MOST_CHARACTERS:,} characters; this has {len(text):,}. Shorten it: a set of "
            "images in one folder counts as one name."
        )
    expression = Expression(text, _Parser(text).whole())
    if not expression.names:
        message = "The expression names no image, class or set; names of digits stand in quotes."
        raise ExpressionError(message, text=text)
    return expression


def _walk(root: Node) -> Iterator[Node]:
    """Yield all nodes, from left to right."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, Negation):
            stack.append(node.operand)
        elif isinstance(node, Operation):
            stack.extend((node.right, node.left))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["number", "name", "quoted", "sign", "end"]
    text: str
    start: int
    end: int

    @property
    def shown(self) -> str:
        return "the expression ends" if self.kind == "end" else f"there is {self.text!r}"


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens of a text, and one for its end."""
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            raise _unreadable(text, place)
        kind = str(match.lastgroup)
        start = match.start(kind) - (kind in ("double", "single"))
        token = _SIGNS.get(match[kind], match[kind])
        yield _Token("quoted" if kind in ("double", "single") else kind, token, start, match.end())  # type: ignore[arg-type]
        place = match.end()
    yield _Token("end", "", len(text), len(text))


def _unreadable(text: str, place: int) -> ExpressionError:
    start = place + len(text[place:]) - len(text[place:].lstrip())
    if text[start] in "\"'":
        return ExpressionError(f"This quote {text[start]} is never closed.", text=text, start=start, end=start + 1)
    return ExpressionError(
        f"{text[start]!r} means nothing here. Expressions know + - * / ( ), numbers and names; names with other "
        "characters stand in quotes.",
        text=text,
        start=start,
        end=start + 1,
    )


class _Parser:
    """Reads tokens from left to right, one method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._terms = 0

    def whole(self) -> Node:
        node = self._expression(0)
        if self._next.kind != "end":
            raise self._expected('"+", "-", "*", "/" or the end')
        return node

    def _expression(self, depth: int) -> Node:
        node = self._term(depth)
        while self._next.kind == "sign" and self._next.text in ("+", "-"):
            node = self._joined(self._take().text, node, self._term(depth))
        return node

    def _term(self, depth: int) -> Node:
        node = self._factor(depth)
        while self._next.kind == "sign" and self._next.text in ("*", "/"):
            node = self._joined(self._take().text, node, self._factor(depth))
        return node

    def _factor(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise self._error(f"Parentheses and signs may be nested {DEEPEST} deep; here it is more.")
        token = self._next
        if token.kind == "sign" and token.text == "-":
            self._take()
            operand = self._factor(depth + 1)
            return Negation(operand, token.start, operand.end)
        if token.kind == "sign" and token.text == "(":
            return self._parenthesis(depth)
        return self._leaf()

    def _parenthesis(self, depth: int) -> Node:
        opening = self._take()
        node = self._expression(depth + 1)
        if self._next.text != ")" or self._next.kind != "sign":
            place = f' that closes the "(" at position {opening.start + 1}'
            raise self._expected(f'")"{place}')
        self._take()
        return node

    def _leaf(self) -> Node:
        if self._next.kind in ("sign", "end"):
            raise self._expected(_START)
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise self._error(f"An expression may have {MOST_TERMS} terms; here begins one more. Use sets of images.")
        token = self._take()
        if token.kind == "number":
            return self._number(token)
        if not token.text.strip():
            raise ExpressionError("A name is empty.", text=self._text, start=token.start, end=token.end)
        return Name(token.text, token.start, token.end)

    def _number(self, token: _Token) -> Number:
        value = float(token.text)
        if not math.isfinite(value):
            raise ExpressionError("This number is too large.", text=self._text, start=token.start, end=token.end)
        return Number(value, token.start, token.end)

    def _joined(self, sign: str, left: Node, right: Node) -> Operation:
        return Operation(sign, left, right, left.start, right.end)  # type: ignore[arg-type]

    def _take(self) -> _Token:
        token, self._next = self._next, next(self._tokens, self._next)
        return token

    def _expected(self, wanted: str) -> ExpressionError:
        hint = ""
        if self._next.kind in ("name", "number", "quoted") and "end" in wanted:
            hint = ' Names of several words stand in quotes: "Border Collie".'
        return self._error(f"Wanted {wanted}, but {self._next.shown}.{hint}")

    def _error(self, message: str) -> ExpressionError:
        return ExpressionError(message, text=self._text, start=self._next.start, end=self._next.end)


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """The value of each node, given those of the names."""

    text: str
    values: Callable[[str], Array]

    def of(self, node: Node) -> Array | float:
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Name):
            return self._named(node)
        if isinstance(node, Negation):
            return -self.of(node.operand)
        return self._combined(node, self.of(node.left), self.of(node.right))

    def _named(self, node: Name) -> Array:
        try:
            return np.asarray(self.values(node.text), dtype=np.float64)
        except ExpressionError as error:
            if error.text:
                raise
            raise ExpressionError(error.message, text=self.text, start=node.start, end=node.end) from error

    def _combined(self, node: Operation, left: Array | float, right: Array | float) -> Array | float:
        if node.sign == "/":
            return self._quotient(node, np.asarray(left, np.float64), np.asarray(right, np.float64))
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found in the result
            if node.sign == "+":
                return left + right
            return left - right if node.sign == "-" else left * right

    def _quotient(self, node: Operation, left: Array, right: Array) -> Array:
        wrong = np.count_nonzero((right == 0) & (left != 0))
        if wrong or (right.ndim == 0 and right == 0):
            where = "always" if right.ndim == 0 else f"for {wrong:,} of {right.size:,} filters or kernels"
            raise ExpressionError(
                f"Division by zero: the divisor is 0 {where}. Add a small number to it.",
                text=self.text,
                start=node.right.start,
                end=node.right.end,
            )
        with np.errstate(over="ignore", invalid="ignore"):
            return np.divide(left, right, out=np.zeros(np.broadcast_shapes(left.shape, right.shape)), where=right != 0)
