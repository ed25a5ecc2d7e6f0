"""Every family of transformers in torchvision and timm: what is recognised, and does dropping tokens say what it says?

For each line of ``transformers.txt``, with random weights and calibrated, shifted batch norm:

1. examine the model on two random images: attentions, heads, special tokens, grid of patches, or why there is none;
   with 30 % of filters, heads and hidden units kept, the compact network must be within 1e-4 of the scored one;
2. where patches can be scored: with a nested random tenth dropped in each block, the network without those tokens must
   be within 1e-4 of the one whose attention gives them weight 0, relative to the range of the logits.

``python -m benchmarks transformers [--only NAME ...] [--out FILE.csv]``
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import fnmatch
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.families import families, randomise
from neurochains.edit import Diagnosis, examine
from neurochains.edit.tokens import TokenNetwork
from neurochains.network import Network, load_model
from neurochains.network.parity import measure_parity

FAMILIES = Path(__file__).with_name("transformers.txt")
RESULTS = Path(__file__).with_name("results") / "transformers.csv"
LIMIT = 1e-4
KEPT = 0.9


@dataclass(frozen=True)
class Row:
    """What came of one family; `compacted` and `dropped` are differences as shares of the logit range."""

    family: str
    input: str
    attentions: int = 0
    fused: int = 0
    mixed: int = 0
    heads: str = ""
    hidden: int = 0
    special: int | None = None
    grid: str = ""
    blocks: int = 0
    compacted: float | None = None
    dropped: float | None = None
    reason: str = ""
    seconds: float = 0.0
    error: str = ""

    @property
    def passes(self) -> bool:
        """Whether nothing broke, and every difference is within its limit; there may be no attention."""
        return not self.error and max(self.compacted or 0, self.dropped or 0) < LIMIT


def run(family: str, shape: tuple[int, int, int]) -> Row:
    """Return the row of one family; an exception becomes its `error`."""
    size, start = "x".join(map(str, shape)), time.process_time()
    try:
        torch.manual_seed(0)
        model, images = load_model(family, pretrained=False), torch.randn(2, *shape)
        randomise(model, images)
        found = examine(model, images)
        dropped = dropping_parity(model, images) if found.transformer and found.transformer.grid else None
    except Exception as error:  # noqa: BLE001 - one failure does not stop the rest
        reason = " ".join(str(error).split())
        return Row(family, size, error=f"{type(error).__name__}: {reason}"[:300], seconds=time.process_time() - start)
    return row(family, size, found, dropped, time.process_time() - start)


def row(family: str, size: str, found: Diagnosis, dropped: float | None, seconds: float) -> Row:
    """Return a row of what the doctor found."""
    seen = found.transformer
    if seen is None:
        others = next((text for text in found.warnings if " as in " in text), "no attention by keys")
        compacted = found.compacted.relative if found.compacted else None
        return Row(family, size, hidden=found.hidden, compacted=compacted, reason=others, seconds=seconds)
    heads = sorted(set(seen.heads))
    return Row(
        family,
        size,
        seen.attentions,
        seen.fused,
        seen.mixed,
        f"{heads[0]}" if len(heads) == 1 else f"{heads[0]}-{heads[-1]}",
        found.hidden,
        seen.special,
        "x".join(map(str, seen.grid or ())),
        seen.blocks,
        found.compacted.relative if found.compacted else None,
        dropped,
        seen.reason,
        seconds,
    )


def dropping_parity(model: nn.Module, images: Tensor) -> float:
    """Return how far weights of 0 are from tokens that are not there."""
    tokens = TokenNetwork(Network.trace(model, images))
    generator = torch.Generator().manual_seed(0)
    shape = (len(images), len(tokens.tokens.blocks), tokens.tokens.patches)
    kept = (torch.rand(shape, generator=generator) < KEPT).cumprod(1).bool()
    kept[..., 0] = True
    with torch.no_grad():
        return measure_parity(tokens(images, kept.float()), tokens.dropped(images, kept)).relative


def line(found: Row) -> str:
    """Return one row as a line to print."""
    tokens = f"{found.special} + {found.grid}, {found.blocks} blocks" if found.grid else found.reason
    shown = (f"{value:8.1e}" if value is not None else f"{'-':>8}" for value in (found.compacted, found.dropped))
    return (
        f"{'ok' if found.passes else 'FAILS':6}{found.family:44}{found.attentions:3} attentions of {found.heads:6} "
        f"heads {' '.join(shown)} {found.seconds:6.1f} s  {tokens} {found.error}"
    )


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        for found in rows:
            values = dataclasses.asdict(found).values()
            writer.writerow([f"{value:.3g}" if isinstance(value, float) else value for value in values])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the families asked for, print a line for each; 1 if one fails."""
    parser = argparse.ArgumentParser(prog="benchmarks.transformers", description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="names, or patterns: 'timm:*vit*'")
    parser.add_argument("--out", type=Path, help=f"CSV file; results/{RESULTS.name} when nothing is left out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    for family, shape in families(FAMILIES):
        if any(fnmatch.fnmatch(family, pattern) for pattern in options.only):
            rows.append(run(family, shape))
            print(line(rows[-1]), flush=True)
    out = options.out or (RESULTS if options.only == ["*"] else None)
    if out:
        write(rows, out)
    good = [found for found in rows if found.passes]
    attending = [found for found in good if found.attentions]
    patched = sum(bool(found.grid) for found in good)
    print(
        f"{len(good)} of {len(rows)} families pass; {len(attending)} of them have attention by keys, "
        f"{sum(found.heads != '0' for found in attending)} heads that can be scored, {patched} patches"
    )
    return 0 if len(good) == len(rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
