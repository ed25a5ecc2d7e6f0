"""Ctrl-C and kill -9 in the middle, on processes of their own: what was saved before is intact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neurochains.chains import load_chain

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

SEARCH = "from neurochains.cli import main; main()"
STUCK_IN_SAVING = """
import os, sys, time
def hang(handle):
    print("saving", file=sys.stderr, flush=True)
    time.sleep(300)
os.fsync = hang
from neurochains.cli import main
main()
"""


@contextmanager
def extracting(code: str, photos: Path, out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that extracts; it is gone afterwards."""
    options = ["--model", "shapes:vgg", "--images", str(photos), "--out", str(out), "--force", "--method", "paper"]
    command = [sys.executable, "-u", "-c", code, "extract", *options, "--no-controls", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Read the process's messages up to a line with this word."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if word in line:
            return
    pytest.fail(f"the process ended before it said {word!r}: {''.join(lines)}")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_ctrl_c_ends_with_130_and_says_what_was_kept(photos, saved):
    before = files_of(saved)
    with extracting(SEARCH, photos, saved, "--steps", "1000000") as process:
        wait_for(process, "optimising")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"interrupted: {saved} is as it was."
    assert "Traceback" not in err
    assert files_of(saved) == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["photos", "saved"]


def test_kill_9_while_it_saves_leaves_the_old_chain(photos, saved):
    before = files_of(saved)
    with extracting(STUCK_IN_SAVING, photos, saved, "--steps", "1", "--refit", "0") as process:
        wait_for(process, "saving")
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert files_of(saved) == before
    chain = load_chain(saved)
    assert chain.subnetwork.kept == 260
    assert len(list(saved.parent.glob(".saved.*.tmp"))) == 1
    chain.save(saved, force=True)  # sweeps up what the killed process left
    assert list(saved.parent.glob(".saved.*.tmp")) == []
