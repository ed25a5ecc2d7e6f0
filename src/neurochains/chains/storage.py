"""Results on disk: a folder with one JSON document and the tensors that it names, written whole or not at all.

1. Everything is written into a temporary folder beside the place, and flushed to the disk.
2. A new result appears by one rename of that folder.
3. A result that is replaced keeps its folder: the new tensors are moved in under names of their own, and the one rename
   of the document makes them the result; only then are the old tensors removed. Other files there are left alone.

So whenever the work is cut short, what was there before is whole; what remains is a ``.NAME.PID.tmp`` folder, or
tensors that no document names, which the next save to that place removes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from neurochains.chains.plain import plain
from neurochains.errors import ArtifactError

__all__ = ["FORMAT_VERSION", "read_result", "write_result"]

FORMAT_VERSION = 1
_FORMAT = "neurochains.{kind}"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Document = Mapping[str, Any]
Tensors = Mapping[str, Mapping[str, Tensor]]


def write_result(
    folder: str | os.PathLike[str], document: Document, tensors: Tensors, *, kind: str = "chain", force: bool = False
) -> Path:
    """Return the folder that a result was written to: ``KIND.json`` and one safetensors file for each set of tensors.

    Args:
        folder: its parents are made where they are missing.
        document: JSON values; of numbers that are not finite, null is kept.
        tensors: sets of tensors by name, such as ``"chain"`` and ``"task"``.
        kind: of result; a folder holds one.
        force: replace a result of this kind that is there already.

    Raises:
        ArtifactError: the place is taken, there is no space left, or it cannot be written to.
    """
    place = Path(folder).absolute()
    _check_place(place, kind, force)
    with suppress(OSError):
        _clean(place)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        names = _write_files(temporary, place, document, tensors, kind)
        _publish(temporary, place, names, force)
    except OSError as error:
        raise _write_error(place, error, tensors) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Path(folder)


def read_result(
    folder: str | os.PathLike[str], *, kind: str = "chain"
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Return the document and the tensors of a result, after checking that they are whole.

    Raises:
        ArtifactError: there is no such result, a newer version wrote it, or a file is missing or damaged.
    """
    place = Path(folder)
    path = place / f"{kind}.json"
    if not path.is_file():
        reason = f"{path.name} is missing" if place.is_dir() else "there is no such folder"
        raise ArtifactError(f"{place} holds no {kind}: {reason}. Wanted a folder that {kind}.save wrote.")
    document = _read_document(path, kind)
    files = document.get("files")
    if not isinstance(files, dict) or not all(_is_tensor_file(entry) for entry in files.values()):
        raise _damaged(path, "it names no tensor files")
    return document, {name: _read_tensors(place / entry["name"], entry["sha256"]) for name, entry in files.items()}


def _check_place(place: Path, kind: str, force: bool) -> None:
    if not os.path.lexists(place):
        return
    if not force:
        raise ArtifactError(
            f"{place} exists already. Choose another folder, or pass force=True (--force) to replace it."
        )
    if not place.is_dir() or place.is_symlink():
        raise ArtifactError(f"{place} is no folder, so it is not replaced, whatever the force. Choose another name.")
    if any(place.iterdir()) and not (place / f"{kind}.json").is_file():
        raise ArtifactError(
            f"{place} holds something else than a {kind}, so it is not replaced. Choose another folder."
        )


def _write_files(temporary: Path, place: Path, document: Document, tensors: Tensors, kind: str) -> list[str]:
    """Write the files of a result, the document last; return their names in this order."""
    entries = {}
    for name, values in tensors.items():
        data = safetensors.torch.save({key: value.detach().cpu().contiguous().clone() for key, value in values.items()})
        entries[name] = {"name": _free_name(place, name), "sha256": hashlib.sha256(data).hexdigest()}
        _write(temporary / entries[name]["name"], data)
    whole = {"format": _FORMAT.format(kind=kind), "version": FORMAT_VERSION, **document, "files": entries}
    _write(temporary / f"{kind}.json", json.dumps(plain(whole), indent=1, ensure_ascii=False, allow_nan=False).encode())
    _flush_folder(temporary)
    return [*(entry["name"] for entry in entries.values()), f"{kind}.json"]


def _free_name(place: Path, name: str) -> str:
    """Return a file name that is not used in a folder: ``chain.safetensors``, ``chain.1.safetensors``, ..."""
    candidates = (f"{name}{f'.{number}' if number else ''}.safetensors" for number in range(10**6))
    return next(candidate for candidate in candidates if not os.path.lexists(place / candidate))


def _publish(temporary: Path, place: Path, names: list[str], force: bool) -> None:
    """Make a finished result the one at its place."""
    if not force or not place.exists() or not any(place.iterdir()):
        os.rename(temporary, place)
    else:
        for name in names:  # the document comes last: with it the new result is there
            os.replace(temporary / name, place / name)
        _flush_folder(place)
        for path in place.glob("*.safetensors"):
            if path.name not in names and _is_ours(path.name, names):
                path.unlink()
    _flush_folder(place.parent)


def _is_ours(name: str, names: list[str]) -> bool:
    stems = {other.split(".")[0] for other in names}
    return re.fullmatch(rf"({'|'.join(map(re.escape, stems))})(\.\d+)?\.safetensors", name) is not None


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(handle)
    finally:
        os.close(handle)


def _clean(place: Path) -> None:
    """Remove the temporary folders that a process which is no more has left for this place."""
    for path in place.parent.glob(f".{place.name}.*.tmp"):
        match = re.fullmatch(r"(\d+)\.tmp", path.name.removeprefix(f".{place.name}."))
        if match and not _is_running(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    """Return whether another process of that number may be at work; this one has nothing under way here."""
    if process == os.getpid():
        return False
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _write_error(place: Path, error: OSError, tensors: Tensors) -> ArtifactError:
    if error.errno in _FULL:
        size = sum(value.numel() * value.element_size() for values in tensors.values() for value in values.values())
        return ArtifactError(
            f"No space left to save {place}: it takes about {size / 1e6:.1f} MB. Nothing was changed there. Make room, "
            "or choose a folder on another disk."
        )
    return ArtifactError(f"{place} cannot be written: {error.strerror or error}. Choose a folder that can.")


def _read_document(path: Path, kind: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT.format(kind=kind):
        raise ArtifactError(f"{path} is no {kind} of NeuroChains. Wanted a folder that {kind}.save wrote.")
    version = document.get("version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format version {version}; this NeuroChains reads up to {FORMAT_VERSION}. Update NeuroChains."
        )
    return document


def _is_tensor_file(entry: Any) -> bool:
    """Return whether an entry names a file in the folder itself, with its digest."""
    if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
        return False
    return re.fullmatch(r"[\w-]+(\.\d+)?\.safetensors", str(entry.get("name"))) is not None


def _read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise _damaged(path, "it is not what was saved")
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise error if isinstance(error, ArtifactError) else _damaged(path, error.strerror or str(error)) from error


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"{path} is truncated or damaged: {reason}. Extract the result again, or take a whole copy.")
