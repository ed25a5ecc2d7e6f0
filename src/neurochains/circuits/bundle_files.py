"""The files of a bundle: written whole or not at all, read by memory map, and only as what they must be.

::

    bundle.json                  what the bundle says of itself (`bundle_document`)
    graph.safetensors            the weights of the kernels and where they come from
    sets/00000.safetensors, ...  one for each set of images: importances, summaries of activations, patches, pictures
    overall.safetensors          the same over all images, without pictures
    classwise.safetensors, ...   projections
    visual-3-17-channel-positive.safetensors, ...   feature visualisations, added when they are wanted

Each appears under its name by one rename, after it was flushed to the disk. A file is read only if it is a plain file
inside the bundle; of its tensors only those that are asked for, after their type and shape were compared.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from neurochains.errors import ArtifactError

__all__ = ["GRAPH_FILE", "OVERALL_FILE", "BundleFolder", "set_file", "visual_file"]

DOCUMENT = "bundle.json"
GRAPH_FILE = "graph.safetensors"
OVERALL_FILE = "overall.safetensors"
LARGEST_DOCUMENT = 2**29
_ABOUT = "neurochains"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LEFT = re.compile(r"\..+\.(\d+)\.tmp")
_KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "U8": "uint8"}

Shape = Sequence[int | None]


def set_file(index: int) -> str:
    """Return the path of a set's file inside a bundle."""
    return f"sets/{index:05d}.safetensors"


def visual_file(layer: int, unit: int, objective: str, negative: bool) -> str:
    """Return the path of a feature visualisation's file inside a bundle."""
    return f"visual-{layer}-{unit}-{objective}-{'negative' if negative else 'positive'}.safetensors"


class BundleFolder:
    """The folder of a bundle."""

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = Path(place)

    def has(self, name: str) -> bool:
        """Return whether a plain file of that name is in the folder, and not somewhere else by a link."""
        path = self.place / name
        return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()

    def size(self, name: str) -> int:
        """Return the length of a file in bytes, -1 where there is none."""
        return (self.place / name).stat().st_size if self.has(name) else -1

    def sizes(self) -> dict[str, int]:
        """Return the lengths of all plain files, by their path inside; links are left out."""
        found: dict[str, int] = {}
        for folder, prefix in ((self.place, ""), (self.place / "sets", "sets/")):
            if folder.is_dir() and not (prefix and folder.is_symlink()):
                with os.scandir(folder) as entries:
                    plain = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
                found |= {f"{prefix}{entry.name}": entry.stat(follow_symlinks=False).st_size for entry in plain}
        return found

    def document(self) -> Any:
        """Return what ``bundle.json`` holds.

        Raises:
            ArtifactError: there is none, or it is no JSON.
        """
        path = self.place / DOCUMENT
        if not self.has(DOCUMENT):
            reason = f"{DOCUMENT} is missing" if self.place.is_dir() else "there is no such folder"
            raise ArtifactError(f"{self.place} holds no bundle: {reason}. Make one with: neurochains prepare.")
        if self.size(DOCUMENT) > LARGEST_DOCUMENT:
            raise ArtifactError(f"{path} is larger than any bundle's document. It is not read.")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, OSError) as error:
            raise self.damaged(DOCUMENT, str(error)) from error

    def write_document(self, document: Mapping[str, Any]) -> None:
        """Write ``bundle.json``.

        Raises:
            ArtifactError: it cannot be written.
        """
        self._write(DOCUMENT, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode())

    def write(self, name: str, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, str] | None = None) -> None:
        """Write a file of tensors, with a few texts about them.

        Raises:
            ArtifactError: it cannot be written; what was there before is whole.
        """
        whole = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
        texts = {_ABOUT: json.dumps(about, sort_keys=True)}  # one text: several are written in any order
        self._write(name, safetensors.numpy.save(whole, None if about is None else texts))

    def read(self, name: str, wanted: Mapping[str, tuple[str, Shape]]) -> dict[str, NDArray[Any]]:
        """Return some tensors of a file, read by memory map.

        Args:
            name: of the file.
            wanted: by the name of each tensor its type, one or several of F64 F32 F16 I64 I32 U8 with ``|`` between,
                and its shape; None for a size that may be any.

        Raises:
            ArtifactError: the file is missing, damaged, or holds something else.
        """
        if not self.has(name):
            raise self.damaged(name, "it is missing")
        try:
            with safetensors.safe_open(self.place / name, framework="numpy") as file:
                return {key: self._tensor(file, name, key, *kind) for key, kind in wanted.items()}
        except (SafetensorError, OSError, ValueError) as error:
            raise error if isinstance(error, ArtifactError) else self.damaged(name, str(error)) from error

    def read_part(self, name: str, key: str, start: int, end: int) -> bytes:
        """Return some bytes of a tensor of bytes.

        Raises:
            ArtifactError: the file is missing or damaged, or has no such bytes.
        """
        try:
            with safetensors.safe_open(self.place / name, framework="numpy") as file:
                part = file.get_slice(key)
                if (
                    part.get_dtype() != "U8"
                    or len(part.get_shape()) != 1
                    or not 0 <= start < end <= part.get_shape()[0]
                ):
                    raise self.damaged(name, f"{key} has no bytes {start} to {end}")
                return part[start:end].tobytes()
        except (SafetensorError, OSError, ValueError) as error:
            raise error if isinstance(error, ArtifactError) else self.damaged(name, str(error)) from error

    def about(self, name: str) -> dict[str, str]:
        """Return the texts about a file's tensors; none where it is missing or damaged."""
        try:
            with safetensors.safe_open(self.place / name, framework="numpy") as file:
                texts = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
        except (SafetensorError, OSError, ValueError, RecursionError):
            return {}
        return {str(key): str(text) for key, text in texts.items()} if isinstance(texts, dict) else {}

    def digest(self, name: str) -> str:
        """Return the sha256 of a file."""
        digest = hashlib.sha256()
        with (self.place / name).open("rb") as file:
            while part := file.read(2**22):
                digest.update(part)
        return digest.hexdigest()

    def clean(self) -> None:
        """Remove what writers that are no more have left half-written."""
        for path in [*self.place.glob(".*.tmp"), *self.place.glob("sets/.*.tmp")]:
            match = _LEFT.fullmatch(path.name)
            if match and not _is_running(int(match[1])):
                path.unlink(missing_ok=True)

    def damaged(self, name: str, reason: str) -> ArtifactError:
        """Return the error for a file that cannot be used."""
        return ArtifactError(
            f"{self.place / name} is truncated or damaged: {reason}. Run neurochains prepare again, which makes what "
            "is missing, or take a whole copy."
        )

    def _tensor(self, file: Any, name: str, key: str, kinds: str, shape: Shape) -> NDArray[Any]:
        if key not in file.keys():  # noqa: SIM118 - it is no mapping
            raise self.damaged(name, f"{key} is missing")
        part = file.get_slice(key)
        kind, found = part.get_dtype(), part.get_shape()
        fits = len(found) == len(shape) and all(size in (None, real) for size, real in zip(shape, found))
        if kind not in kinds.split("|") or kind not in _KINDS or not fits:
            raise self.damaged(name, f"{key} is {kind} {tuple(found)} where {kinds} {tuple(shape)} was wanted")
        return file.get_tensor(key)

    def _write(self, name: str, data: bytes) -> None:
        path = self.place / name
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise _write_error(path, error, len(data)) from error
        finally:
            temporary.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError, size: int) -> ArtifactError:
    if error.errno in _FULL:
        return ArtifactError(
            f"No space left to write {path}: it takes {size / 1e6:.1f} MB. Make room and run the same command again; "
            "it goes on where it was."
        )
    return ArtifactError(f"{path} cannot be written: {error.strerror or error}. Choose a folder that can.")


def _is_running(process: int) -> bool:
    if process == os.getpid() or os.name != "posix":
        return process != os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
