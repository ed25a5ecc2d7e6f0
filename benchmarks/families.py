"""Every family of networks in torchvision and timm: is it traced, and is it compacted, without a difference?

For each line of ``families.txt``, with random weights and calibrated, shifted batch norm:

1. examine the model on two random images of the size given;
2. the traced outputs must be within 1e-5 of the original ones, relative to the range of the logits;
3. with a random 30 % of the units kept, the compact network must be within 1e-4 of the scored one.

``python -m benchmarks.families [--only NAME ...] [--out FILE.csv] [--workers N]``
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import fnmatch
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn

from neurochains.edit import examine
from neurochains.network import load_model

FAMILIES = Path(__file__).with_name("families.txt")
RESULTS = Path(__file__).with_name("results") / "families.csv"
TRACED, COMPACTED = 1e-5, 1e-4
NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Row:
    """What came of one family; differences are shares of the logit range."""

    family: str
    input: str
    layers: int = 0
    filters: int = 0
    hidden: int = 0
    blocks: int = 0
    macs: int = 0
    parameters: int = 0
    traced: float | None = None
    compacted: float | None = None
    without_rule: str = ""
    seconds: float = 0.0
    error: str = ""

    @property
    def passes(self) -> bool:
        """Whether both differences are within their limits; a network without scored units has only the first."""
        return (
            not self.error
            and (self.traced is not None and self.traced < TRACED)
            and (self.compacted is None or self.compacted < COMPACTED)
        )


def families(path: Path = FAMILIES) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield each model name with its input shape, from lines ``name [side [channels]]``; ``#`` starts a comment."""
    for line in path.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            side, channels = (int(words[1]) if len(words) > 1 else 224), (int(words[2]) if len(words) > 2 else 3)
            yield words[0], (channels, side, side)


def randomise(model: nn.Module, images: Tensor) -> None:
    """Give a model weights with which a difference shows: nothing is zero, and no signal dies or explodes."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1 and float(parameter.abs().max()) < 0.1:  # biases, layer scales, zero-init gains
                parameter.copy_(torch.rand_like(parameter) * 0.5)
            elif not bool(parameter.any()):
                nn.init.normal_(parameter, std=0.02)
        norms = [module for module in model.modules() if isinstance(module, NORMS)]
        for norm in norms:
            norm.train().momentum = 1.0
        model(images)
        for norm in norms:
            norm.eval()
            if norm.running_mean is not None and norm.running_var is not None:
                norm.running_mean.add_(torch.randn_like(norm.running_mean) * 0.1)
                norm.running_var.mul_(torch.rand_like(norm.running_var) + 0.5).clamp_(min=1e-3)


def run(family: str, shape: tuple[int, int, int]) -> Row:
    """Return the row of one family; an exception becomes its `error`."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    size, start = "x".join(map(str, shape)), time.perf_counter()
    try:
        model = load_model(family, pretrained=False)
        images = torch.randn(2, *shape)
        randomise(model, images)
        found = examine(model, images)
    except Exception as error:  # noqa: BLE001 - one failure does not stop the rest
        reason = " ".join(str(error).split())
        return Row(family, size, error=f"{type(error).__name__}: {reason}"[:400], seconds=time.perf_counter() - start)
    return Row(
        family,
        size,
        len(found.layers),
        found.filters,
        found.hidden,
        len(found.blocks),
        found.costs.macs,
        found.costs.parameters,
        found.traced.relative,
        found.compacted.relative if found.compacted else None,
        "; ".join(f"{name} {count}" for name, count in found.without_rule.items()),
        time.perf_counter() - start,
    )


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        for row in rows:
            values = dataclasses.asdict(row)
            writer.writerow([f"{value:.3g}" if isinstance(value, float) else value for value in values.values()])


def line(row: Row) -> str:
    """Return one row as a line to print."""
    differences = (f"{value:8.1e}" if value is not None else f"{'-':>8}" for value in (row.traced, row.compacted))
    return (
        f"{'ok' if row.passes else 'FAILS':6}{row.family:48}{row.input:>11} {row.layers:4} layers {row.filters:7,} "
        f"filters {' '.join(differences)} {row.seconds:6.1f} s  {row.error}"
    )


def summary(rows: Sequence[Row]) -> str:
    """Return how many families pass, and the largest differences among them."""
    good = [row for row in rows if row.passes]
    traced = [row.traced for row in good if row.traced is not None]
    compacted = [row.compacted for row in good if row.compacted is not None]
    return (
        f"{len(good)} of {len(rows)} families pass; traced at most {max(traced, default=0):.1e}, "
        f"compact at most {max(compacted, default=0):.1e} of the logit range ({len(compacted)} compacted)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the families asked for, print a line for each and a summary; 1 if one fails."""
    parser = argparse.ArgumentParser(prog="benchmarks.families", description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="names, or patterns: 'timm:*net*'")
    parser.add_argument("--out", type=Path, help=f"CSV file; results/{RESULTS.name} when nothing is left out")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    chosen = [item for item in families() if any(fnmatch.fnmatch(item[0], pattern) for pattern in options.only)]
    rows = []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for row in pool.map(run, *zip(*chosen, strict=True)):
            rows.append(row)
            print(line(row), flush=True)
    print(summary(rows))
    out = options.out or (RESULTS if options.only == ["*"] else None)
    if out:
        write(rows, out)
    return 0 if all(row.passes for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
