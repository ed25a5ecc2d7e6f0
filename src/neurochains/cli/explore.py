"""`neurochains explore`: a page on which a prepared network is queried, walked through and understood by clicking."""

from __future__ import annotations

import shlex
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurochains.cli import options as o
from neurochains.cli.console import tell, working, write_json
from neurochains.cli.models import ModelChoice
from neurochains.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["explore"]

_SHAPES = "shapes:vgg"
_SHAPES_IMAGES = 128
_HERE = "127.0.0.1"

_Bundle = Annotated[
    Path | None,
    typer.Argument(metavar="BUNDLE", help="What prepare wrote; if left out, a bundled network."),
]
_Chains = Annotated[
    list[Path] | None,
    typer.Option("--chain", metavar="RUN...", help="What extract, circuit or decouple train wrote of the network."),
]
_Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="NAME", help="The bundle's network, if not of the zoo.")
]
_Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; elsewhere it takes a token.")]
_Port = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, max=65535, help="0: any that is free.", show_default="8050 or the next"),
]
_Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")]


def explore(
    bundle: _Bundle = None,
    chain: _Chains = None,
    model: _Model = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    host: _Host = _HERE,
    port: _Port = None,
    browser: _Browser = True,
    as_json: o.AsJson = False,
) -> None:
    """Open the explorer of a bundle in the browser, until Ctrl-C."""
    if model is None and (weights is not None or trust_pickle):
        raise SettingsError("--weights and --trust-pickle say nothing without --model. Name the model as well.")
    with _place(bundle) as place:
        with working("nothing was opened."):
            from neurochains.explorer import explore as serve

            known = None if model is None else _load(model, weights, trust_pickle)
            running = serve(place, chains=list(chain or ()), model=known, host=host, port=port)
        _announce(running, place, browser=browser, as_json=as_json)
        with running, working("the explorer was closed."):
            running.wait()


def _load(model: str, weights: Path | None, trust_pickle: bool) -> nn.Module:
    return ModelChoice(model, weights, trust_pickle).load()


@contextmanager
def _place(bundle: Path | None) -> Iterator[Path]:
    """Yield the folder of the bundle; one of the bundled network, made now and removed afterwards, if there is none."""
    if bundle is not None:
        yield bundle
        return
    with tempfile.TemporaryDirectory(prefix="neurochains-") as folder:
        tell(f"Preparing {_SHAPES} on {_SHAPES_IMAGES} of its images ...")
        yield _prepared(Path(folder) / "shapes")


def _prepared(place: Path) -> Path:
    from neurochains.circuits import prepare
    from neurochains.data import Task
    from neurochains.network import load_model

    prepare(load_model(_SHAPES), Task.shapes(_SHAPES_IMAGES), place, projection="pca")
    return place


def _announce(running: Any, place: Path, *, browser: bool, as_json: bool) -> None:
    """Say where the page is, and open it."""
    if as_json:
        write_json({"url": running.url, "port": running.port, "bundle": str(place)})
    tell(f"The explorer is at {running.url}   (Ctrl-C ends it)")
    if browser and not webbrowser.open(running.url):
        tell(f"hint: no browser could be opened. Open the address yourself: {shlex.quote(running.url)}")
