"""The explorer: a page on which a network is queried, walked through and understood by clicking.

1. `explore` opens a bundle on a `Desk`, which all pages share, and serves the application (`app`).
2. What a page shows is a `View`, written in its address; a link reproduces it, and the browser's buttons go back.
3. The browser splits the address into `parts`; a panel draws itself again when its part changes.
4. What takes longer than a click may is done by the `worker`, with progress, and can be stopped.

Dash and what it needs are imported by `explore` only.
"""

from __future__ import annotations

from neurochains.explorer.serve import Explorer, explore

__all__ = ["Explorer", "explore"]
