"""A browser for tests and measurements: the system's chromium, drawing in software."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["FLAGS", "find_chromium", "page", "settle"]

FLAGS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
PATIENCE = 180_000


def find_chromium() -> str | None:
    """Return where the system's chromium is, None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def page(width: int = 1280, height: int = 800) -> Iterator[tuple[Any, list[str]]]:
    """Yield a page, and the list of what went wrong on it: errors of the console, failed requests."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_chromium(), args=list(FLAGS), timeout=PATIENCE)
        made = browser.new_page(viewport={"width": width, "height": height})
        made.set_default_timeout(PATIENCE)
        made.on("pageerror", lambda error: wrong.append(str(error)))
        made.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        made.on("response", lambda got: wrong.append(f"{got.status} {got.url}") if got.status >= 400 else None)
        try:
            yield made, wrong
        finally:
            browser.close()


def settle(made: Any) -> None:
    """Wait until no callback is on its way."""
    made.wait_for_timeout(250)
    made.wait_for_function("!document.querySelector('[data-dash-is-loading=true], [aria-busy=true]')")
    made.wait_for_timeout(250)
