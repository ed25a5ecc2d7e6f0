"""``python -m benchmarks NAME [OPTIONS]`` runs one benchmark; without a name, lists them."""

from __future__ import annotations

import importlib
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads ruin times where others use the cores too

BENCHMARKS = {
    "dynamic": "dynamic inference of a decoupled VGG-16 beside the original, in real time",
    "bundle": "bundles of AlexNet's size: how large, how long, and how fast a query is answered",
    "circuits": "circuits of filters by every method and size, on images that none of them saw",
    "detection": "attacked images, detected by calculation paths and by the controls",
    "explorer": "the explorer in a real browser: page, query, panel of a filter, memory over 200 clicks",
    "extraction": "the budget method beside the paper's and the controls, on real networks",
    "families": "every family of networks in torchvision and timm, traced and compacted",
    "importance": "every filter and kernel of AlexNet, beside a bare forward and backward pass",
    "planted": "every extraction and ranking method on networks whose true circuit is known",
    "patches": "how many patches a vision transformer can spare, beside controls, and what finding that out costs",
    "scale": "the budget method on ResNet-50 and VGG-19 at 224 px: time and memory beside plain steps",
    "studies": "two workers beside one, opening 10,000 cases, and the papers' comparison on real networks",
    "subfeatures": "sub-features of a bundled network's filters, beside what its images are known to show",
    "transformers": "every family of transformers in torchvision and timm: what is recognised, and tokens dropped",
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
