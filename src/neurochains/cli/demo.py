"""`neurochains demo`: a chain of two classes of the shapes data in a bundled network, from nothing to its report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from neurochains.cli.console import results_console, tell, working
from neurochains.cli.options import Force, OutFolder, Quiet
from neurochains.cli.places import check_folder
from neurochains.cli.progress import duration, extraction_progress
from neurochains.cli.summary import metrics_tables, verdict

if TYPE_CHECKING:
    from neurochains.chains import Chain
    from neurochains.data import Task

__all__ = ["demo"]

_MODEL = "shapes:vgg"
_CLASSES = ("red striped disc", "red striped star")
_IMAGES = 20
_HELD_OUT = 40
_COMMAND = "neurochains demo"
_DEFAULT = Path("runs") / "demo"


def demo(out: OutFolder = _DEFAULT, force: Force = False, quiet: Quiet = False) -> None:
    """Extract a chain from a bundled network and write its report, in a minute."""
    started = time.monotonic()
    replace = force or _is_own(out)
    check_folder(out, force=replace)
    with working(f"{out} is as it was." if out.exists() else f"nothing was written to {out}."):
        tell(f"{_MODEL} on {_IMAGES} images of: {' and '.join(_CLASSES)}")
        chain = _extracted(quiet)
        chain.save(out, force=replace)
    page = out / "report.html"
    with working(f"the chain is saved in {out}; its report is not written."):
        _write_page(chain, page, quiet)
    _show(chain, page, time.monotonic() - started)


def _extracted(quiet: bool) -> Chain:
    import torch

    from neurochains.extraction import extract
    from neurochains.network import load_model

    torch.set_num_threads(1)  # sums in one order on any number of cores; more threads gain little on 64 pixels
    model = load_model(_MODEL)
    with extraction_progress(quiet=quiet) as progress:
        chain = extract(model, _task(), effort="thorough", progress=progress)
    chain.provenance["command"] = _COMMAND
    return chain


def _task() -> Task:
    from neurochains.data import Task

    given = Task.shapes(_IMAGES, classes=_CLASSES)
    names = {"names": given.names, "pixels": given.pixels, "digests": given.digests}
    held = Task.shapes(_HELD_OUT, seed=1, classes=_CLASSES)
    return Task(given.images, given.labels, given.class_names, **names, held_out=held)


def _write_page(chain: Chain, page: Path, quiet: bool) -> None:
    from neurochains.report import write_report

    write_report(chain, page, progress=None if quiet else tell)


def _show(chain: Chain, page: Path, seconds: float) -> None:
    console = results_console()
    console.print(metrics_tables(chain.metrics))
    text = f"\n{verdict(chain.metrics)}\nThe report is in {page} ({page.stat().st_size / 1e6:.1f} MB)."
    console.print(f"{text} All of it took {duration(seconds)}.", soft_wrap=True)


def _is_own(folder: Path) -> bool:
    """Return whether what is in a folder was made by this command."""
    try:
        document = json.loads((folder / "chain.json").read_text(encoding="utf-8"))
        return document["provenance"]["command"] == _COMMAND
    except (OSError, ValueError, KeyError, TypeError):
        return False
