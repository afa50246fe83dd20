"""A zip of plain arrays that says itself what must be in it, and is refused where it does not add up."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "manifest"
"""The member that lists all others."""
SUFFIX = ".npy"
PACKED = 1 << 28
"""Bytes to which the compressed members of an old file may always unfold; beyond, 64 times the file's own size."""


class Damaged(ValueError):
    """What does not add up, as a sentence."""


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays, uncompressed, so that reading needs no more memory than the file has bytes."""
    listed: dict[str, Any] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            array = np.asarray(array)
            content = _bytes(array)
            archive.writestr(_dated(name), content)
            listed[name] = {
                "dtype": array.dtype.str,
                "shape": list(array.shape),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        archive.writestr(_dated(MANIFEST), _bytes(text(listed)))


def text(value: Any, **options: Any) -> np.ndarray:
    """A JSON text as an array of bytes."""
    return np.frombuffer(json.dumps(value, **options).encode(), np.uint8)


def _dated(name: str) -> zipfile.ZipInfo:
    """The same content gives the same bytes, whenever it is written."""
    return zipfile.ZipInfo(name + SUFFIX)


def _bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


class Reader:
    """An open file: its names, and its arrays one by one. Nothing is read before its size is known to be right.

    `checked` reads every member and compares it with the manifest; older files have none, and may be compressed.
    """

    def __init__(self, file: Any):
        self.size = os.fstat(file.fileno()).st_size
        if file.read(2) != b"PK":
            raise ValueError("it is no zip archive")
        self.archive = zipfile.ZipFile(file)
        members = self.archive.infolist()
        self.members = {info.filename.removesuffix(SUFFIX): info for info in members}
        if len(self.members) < len(members):
            raise Damaged("A member is there twice")
        foreign = [info.filename for info in members if not info.filename.endswith(SUFFIX)]
        if foreign:
            raise Damaged(f"A member '{foreign[0]}' does not belong in it")
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in members)
        if sum(info.file_size for info in members) > (self.size if stored else max(PACKED, 64 * self.size)):
            raise Damaged("It would unfold to many times its size")

    def array(self, name: str) -> np.ndarray:
        """One member."""
        return self._parsed(name, self._content(name))

    def checked(self) -> dict[str, np.ndarray]:
        """All members but the manifest, which must list just these."""
        listed = json.loads(bytes(self.array(MANIFEST)))
        missing = [name for name in listed if name not in self.members]
        if missing:
            raise Damaged(f"The member '{missing[0]}' is missing")
        foreign = [name for name in self.members if name not in listed and name != MANIFEST]
        if foreign:
            raise Damaged(f"A member '{foreign[0]}' does not belong in it")
        arrays = {}
        for name, facts in listed.items():
            info = self.members[name]
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise Damaged(f"The member '{name}' is compressed")
            content = self._content(name)
            if hashlib.sha256(content).hexdigest() != facts["sha256"]:
                raise Damaged(f"The member '{name}' is not what was written")
            arrays[name] = self._parsed(name, content)
            if arrays[name].dtype.str != facts["dtype"] or list(arrays[name].shape) != facts["shape"]:
                raise Damaged(f"The member '{name}' has another shape or dtype than was written")
        return arrays

    def _content(self, name: str) -> bytes:
        info = self.members[name]
        with self.archive.open(info) as member:
            content = member.read(info.file_size)
        if len(content) != info.file_size:
            raise Damaged(f"The member '{name}' is too short")
        return content

    def _parsed(self, name: str, content: bytes) -> np.ndarray:
        stream = io.BytesIO(content)
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise Damaged(f"The member '{name}' is no array")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        start = stream.tell()
        if dtype.hasobject or any(size < 0 for size in shape):
            raise Damaged(f"The member '{name}' is no plain array")
        if math.prod(shape) * dtype.itemsize != len(content) - start:
            raise Damaged(f"The member '{name}' has {len(content) - start} bytes, not those of its shape {shape}")
        values = np.frombuffer(content, dtype, offset=start) if math.prod(shape) else np.zeros(0, dtype)
        return values.reshape(shape, order="F" if fortran else "C").copy()
