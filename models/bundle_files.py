"""Files of a bundle: listing, bounded reading, arrays without pickle, folders that appear as a whole."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BundleError

__all__ = ["Arrays", "files_in", "new_folder", "pack_npz", "read_bounded", "read_npz", "replace_synced", "write_synced"]

Arrays = Mapping[str, npt.NDArray[Any]]


def files_in(root: Path) -> set[str]:
    """Paths of all files below ``root``; links and devices are refused, so nothing outside can be meant."""
    out = set()
    for folder, folders, names in os.walk(root, followlinks=False):
        for name in (*folders, *names):
            path = Path(folder) / name
            inside = path.relative_to(root).as_posix()
            if path.is_symlink():
                raise BundleError(f"{inside} is a link; a bundle holds plain files only")
            if name in names:
                if not path.is_file():
                    raise BundleError(f"{inside} is no plain file")
                out.add(inside)
    return out


def read_bounded(path: Path, n_max: int) -> bytes:
    """Content of a file that is not longer than ``n_max`` bytes."""
    with path.open("rb") as f:
        data = f.read(n_max + 1)
    if len(data) > n_max:
        raise BundleError(f"{path.name} is damaged, it is longer than its {n_max} bytes: fetch the bundle again")
    return data


def read_npz(files: Mapping[str, bytes], name: str, want: Mapping[str, tuple[Any, tuple[int, ...]]]) -> Arrays:
    """Arrays of a ``.npz``, read-only; names, types and shapes must be those of ``want``.

    The header of each array is compared before its data are unpacked, so the manifest bounds the memory used.
    """
    if name not in files:
        raise BundleError(f"{name} is not among the files of the manifest")
    out = {}
    try:
        with zipfile.ZipFile(io.BytesIO(files[name])) as z:
            if (has := sorted(z.namelist())) != sorted(f"{key}.npy" for key in want):
                raise BundleError(f"{name} holds {has}, expected {sorted(want)}")
            if any(i.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for i in z.infolist()):
                raise BundleError(f"{name} is packed in a way that numpy does not use")
            for key, (dtype, shape) in want.items():
                with z.open(f"{key}.npy") as f:
                    version = np.lib.format.read_magic(f)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    found, fortran, found_dtype = read(f)
                    if (found, found_dtype, fortran) != (shape, np.dtype(dtype), False):
                        raise BundleError(
                            f"{name} {key}: {found_dtype} {found}, expected {np.dtype(dtype)} {shape} in C order"
                        )
                    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
                    out[key] = np.frombuffer(f.read(n_bytes), dtype).reshape(shape)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError) as e:  # encrypted: RuntimeError
        raise BundleError(f"{name} cannot be read: {e}") from e
    return out


def pack_npz(arrays: Arrays) -> bytes:
    """Content of a compressed ``.npz``; the same arrays give the same bytes."""
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **{key: np.ascontiguousarray(a) for key, a in arrays.items()})
    return out.getvalue()


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def replace_synced(path: Path, data: bytes) -> None:
    """Write a file, or another in its place; it is there as a whole or not at all."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(fd)
            os.fchmod(fd, 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def new_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """Give a folder to fill; it becomes ``target`` as a whole when the block ends well, and vanishes otherwise.

    Raises
    ------
    BundleError
        If ``target`` exists and ``force`` is not set.
    """
    if os.path.lexists(target) and not force:
        raise BundleError(f"{target} exists already: choose another name, or say that it may be replaced")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    fresh, old = work / "new", work / "old"
    try:
        fresh.mkdir()
        yield fresh
        for folder, _, _ in os.walk(fresh):
            _sync_folder(Path(folder))
        if os.path.lexists(target):
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if os.path.lexists(old):
                old.rename(target)
            raise
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
