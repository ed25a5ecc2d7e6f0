"""The options of commands that ask what matters to a network: target, criterion, layers."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

__all__ = ["Criteria", "Layers", "ReduceName", "Reduces", "Targets"]

_QUESTION = "The question"


class ReduceName(str, Enum):
    """Whether the absolute value is taken inside the sums."""

    abs = "abs"
    signed = "signed"


Targets = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help='What importance is for: loss, logit:3, "features.10[9]", L4B1C2_48@max, ...',
        show_default="loss",
        rich_help_panel=_QUESTION,
    ),
]
Criteria = Annotated[
    str | None,
    typer.Option(
        "--criterion",
        metavar="NAME",
        help="How it is measured: activation_gradient, activation, gradient, snip, magnitude, ...",
        show_default="activation_gradient",
        rich_help_panel=_QUESTION,
    ),
]
Reduces = Annotated[
    ReduceName | None,
    typer.Option(
        "--reduce",
        metavar="FORM",
        help="abs: absolute values are summed; signed: opposite signs cancel.",
        show_default="abs",
        rich_help_panel=_QUESTION,
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAYER...",
        help="Dotted names or labels: --layers L3 features.10.",
        show_default="all",
        rich_help_panel=_QUESTION,
    ),
]
