"""The folder of a study: what was planned, and what came of each case, safe at every moment.

- ``study.json``: the plan, the identifiers' digest, versions, and the digest of each model's weights.
- ``pending/ID.json``: the result of one finished case, written to a temporary name, flushed and renamed; its first line
  is the digest of the second.
- ``failed/ID.json``: the same, of a case that ended with an error.
- ``cases/part-N.parquet`` and ``filters/part-N.parquet``: finished cases put together, see `neurochains.studies.parts`.
- ``study.lock``: held while a process is at work there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neurochains.errors import ArtifactError

__all__ = [
    "VERSION",
    "DamagedError",
    "lock",
    "publish",
    "read_record",
    "read_study_file",
    "write_record",
]

VERSION = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_log = logging.getLogger(__name__)


class DamagedError(Exception):
    """A file of a study is not what was written; never leaves this package."""


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a result: whole or not at all.

    Raises:
        ArtifactError: there is no space left, or it cannot be written.
    """
    text = json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    publish(path, f"{digest}\n{text}\n".encode())


def read_record(path: Path) -> dict[str, Any]:
    """Return a result.

    Raises:
        DamagedError: it is not what was written.
    """
    try:
        digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        if hashlib.sha256(text.rstrip("\n").encode()).hexdigest() != digest:
            raise DamagedError(str(path))
        record = json.loads(text)
    except (OSError, ValueError) as error:
        raise DamagedError(str(path)) from error
    return record


def publish(path: Path, data: bytes) -> None:
    """Write a file to a temporary name beside its place, flush it, and put it there at once.

    Raises:
        ArtifactError: there is no space left, or it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError) -> ArtifactError:
    """Return the error for a file of a study that cannot be written."""
    if error.errno in _FULL:
        return ArtifactError(
            f"No space left to write {path}. All cases that were finished before are kept. Make room, then run the "
            "same study again: it goes on where it stopped."
        )
    return ArtifactError(f"{path} cannot be written: {error.strerror or error}. Choose a folder that can.")


def read_study_file(folder: Path) -> dict[str, Any] | None:
    """Return what ``study.json`` says; None where there is none.

    Raises:
        ArtifactError: it is damaged, or a newer version wrote it.
    """
    path = folder / "study.json"
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version, _ = document["version"], (document["plan"], document["models"], document["cases"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} is damaged. The results beside it are not lost: put back a copy of the file, or remove it and run "
            "the same study again, which takes up the cases that are finished."
        ) from error
    if not isinstance(version, int) or version > VERSION:
        raise ArtifactError(
            f"{path} has version {version}; this NeuroChains reads up to {VERSION}. Update NeuroChains."
        )
    return document


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a study's folder; where the system cannot, nothing is held.

    Raises:
        ArtifactError: another process holds it.
    """
    path = folder / "study.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise _write_error(path, error) from error
    with file:
        if not _locked(file.fileno()):
            raise ArtifactError(f"Another process is at work on the study in {folder}. Wait until it is done.")
        yield


def _locked(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        _log.warning("the file system cannot lock: do not run the study twice at a time")
    return True
