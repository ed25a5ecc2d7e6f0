"""The options that several commands have, and those of `extract`, each declared once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Agreement",
    "Also",
    "AsJson",
    "Classes",
    "Controls",
    "Device",
    "Effort",
    "EffortName",
    "Fidelity",
    "Force",
    "Gates",
    "HeldOut",
    "Images",
    "InputSize",
    "Lam",
    "Mean",
    "Method",
    "MethodName",
    "Model",
    "ObjectiveName",
    "Objectives",
    "OutFolder",
    "PerClass",
    "Quiet",
    "RandomWeights",
    "Refit",
    "Run",
    "RunModel",
    "ScoreRange",
    "ScoreRanges",
    "Seed",
    "SingleImage",
    "Size",
    "Std",
    "Steps",
    "TrustPickle",
    "Units",
    "UnitsName",
    "Weights",
]


class MethodName(str, Enum):
    """The methods of extraction."""

    budget = "budget"
    paper = "paper"


class ObjectiveName(str, Enum):
    """The objectives that have a name."""

    kl = "kl"
    mse = "mse"
    cosine = "cosine"


class EffortName(str, Enum):
    """How long the budget method searches."""

    quick = "quick"
    thorough = "thorough"


class ScoreRange(str, Enum):
    """The values that scores can take."""

    unbounded = "unbounded"
    unit = "unit"
    binary = "binary"


class UnitsName(str, Enum):
    """The kinds of units that can be scored."""

    filters = "filters"
    hidden = "hidden"
    heads = "heads"
    patches = "patches"


_MODEL = "The model"
_IMAGES = "The images"
_SEARCH = "The search"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="torchvision:NAME, timm:NAME, hf:REPOSITORY, shapes:vgg, shapes:resnet, shapes:vit, or "
        "path/to/file.py:function.",
        rich_help_panel=_MODEL,
    ),
]
RunModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="The model of the run, where it is not found by itself: your own code.",
        rich_help_panel=_MODEL,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights: safetensors, or a PyTorch checkpoint.", rich_help_panel=_MODEL),
]
TrustPickle = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Unpickle the checkpoint, which may run code in it.", rich_help_panel=_MODEL),
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Take random weights; nothing is downloaded.", rich_help_panel=_MODEL)
]
InputSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Of the model's input: 224, 160x240 or 1x28x28. By default what the model says.",
        rich_help_panel=_MODEL,
    ),
]
Mean = Annotated[
    list[float] | None,
    typer.Option(metavar="M...", help="Per channel, subtracted from pixels in 0 ... 1.", rich_help_panel=_MODEL),
]
Std = Annotated[
    list[float] | None, typer.Option(metavar="S...", help="Per channel, divided by.", rich_help_panel=_MODEL)
]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1 or mps.", rich_help_panel=_MODEL)]

Images = Annotated[
    Path,
    typer.Option("--images", "-i", metavar="FOLDER", help="FOLDER/CLASS/FILE or FOLDER/FILE.", rich_help_panel=_IMAGES),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS...", help="Names, synsets or indices: --classes dalmatian strawberry.", rich_help_panel=_IMAGES
    ),
]
PerClass = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Images of each class.", show_default="all", rich_help_panel=_IMAGES),
]
HeldOut = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="More images of each class, only measured on.", rich_help_panel=_IMAGES),
]
SingleImage = Annotated[
    bool,
    typer.Option("--single-image", help="Allow one image, which nearly any few filters fit.", rich_help_panel=_IMAGES),
]

Fidelity = Annotated[
    float | None,
    typer.Option(metavar="KL", help="Largest mean divergence allowed.", show_default="0.05", rich_help_panel=_SEARCH),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="N", help="Instead: how many filters (150), or which share (0.1).", rich_help_panel=_SEARCH),
]
Agreement = Annotated[
    float | None,
    typer.Option(metavar="A", help="Instead: least share of predictions kept.", rich_help_panel=_SEARCH),
]
Method = Annotated[
    MethodName,
    typer.Option(metavar="METHOD", help="budget, or that of the paper: paper.", rich_help_panel=_SEARCH),
]
Objectives = Annotated[
    ObjectiveName,
    typer.Option(
        "--objective",
        metavar="NAME",
        help="kl: classifiers; mse: regression; cosine: embeddings.",
        rich_help_panel=_SEARCH,
    ),
]
Effort = Annotated[
    EffortName,
    typer.Option(
        metavar="EFFORT",
        help="Of the budget method: quick, or thorough: fewer filters in two to four times the time.",
        rich_help_panel=_SEARCH,
    ),
]
ScoreRanges = Annotated[
    ScoreRange,
    typer.Option(
        "--score-range",
        metavar="RANGE",
        help="Of scores: unbounded, unit (0 to 1) or binary.",
        rich_help_panel=_SEARCH,
    ),
]
Gates = Annotated[
    bool | None,
    typer.Option("--gates/--no-gates", help="Whether whole blocks can be skipped.", rich_help_panel=_SEARCH),
]
Units = Annotated[
    list[UnitsName] | None,
    typer.Option(
        metavar="UNITS...",
        help="What is scored: filters, hidden units, attention heads, patches; may be given several times.",
        show_default="filters",
        rich_help_panel=_SEARCH,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="At most, of the paper's method; or of tuning in each round.",
        show_default="300; 5",
        rich_help_panel=_SEARCH,
    ),
]
Refit = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Steps on the scores of what survives.", rich_help_panel=_SEARCH),
]
Lam = Annotated[
    float | None,
    typer.Option(metavar="L", min=0, help="Weight of the scores' sum in the paper's method.", rich_help_panel=_SEARCH),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of everything drawn at random.", rich_help_panel=_SEARCH)]
Controls = Annotated[
    bool,
    typer.Option("--controls/--no-controls", help="Measure other sub-networks of the size.", rich_help_panel=_SEARCH),
]

OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the result is saved.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that extract wrote.")]
Also = Annotated[
    list[Path] | None,
    typer.Option(metavar="IMAGE...", help="Images that were not used, to hold against those of the run."),
]
