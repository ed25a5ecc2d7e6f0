"""``python -m benchmarks NAME [OPTIONS]`` runs one benchmark; without a name, lists them."""

from __future__ import annotations

import importlib
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads ruin times where others use the cores too

BENCHMARKS = {
    "extraction": "the budget method beside the paper's and the controls, on real networks",
    "families": "every family of networks in torchvision and timm, traced and compacted",
}


def main(arguments: list[str]) -> int:
    """Run the benchmark named first, with the rest as its options."""
    if not arguments or arguments[0] not in BENCHMARKS:
        for name, words in BENCHMARKS.items():
            print(f"{name:12}{words}")
        return 0 if not arguments else 2
    return importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
