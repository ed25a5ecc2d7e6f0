"""Where the zoo's models come from: libraries, the package itself, and the user's own files.

A source is a function from a `Request` to (module, `ModelInfo`). Where the request asks for no pretrained weights, it
builds the architecture with random weights, always the same ones, and leaves the network alone.
"""

from neurochains.network.sources.hub_models import from_hub
from neurochains.network.sources.own_models import from_file, from_package, is_file_name
from neurochains.network.sources.request import Built, Request, Source
from neurochains.network.sources.timm_models import from_timm
from neurochains.network.sources.torchvision_models import from_torchvision

__all__ = [
    "Built",
    "Request",
    "Source",
    "from_file",
    "from_hub",
    "from_package",
    "from_timm",
    "from_torchvision",
    "is_file_name",
]
