"""The folder that an archive run writes: its layout, who may write to it, and what is done already.

::

    OUT/manifest.json        settings, versions, meaning of the columns, counts of the last run
    OUT/windows/*.parquet    one part per recording, one row per window and channel
    OUT/contacts/*.parquet   one row per contact record
    OUT/demon/*.parquet      one row per record of the modulation of the hiss
    OUT/gaps/*.parquet       one row per gap and channel
    OUT/recordings.parquet   one row per recording: what became of it
    OUT/failed.json          recordings without records, and why
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daemon.archive.job import Job, Unit, differences
from daemon.archive.parts import UNFINISHED, about_part, remove_parts, write_whole
from daemon.archive.tables import TABLES, schemas
from models.bundle import Bundle
from models.errors import InputError, UsageError

__all__ = ["MANIFEST", "RECORDINGS_SCHEMA", "ArchiveFolder"]

MANIFEST = "manifest.json"
RECORDINGS = "recordings.parquet"
FAILURES = "failed.json"
LOCK = ".lock"
RECORDINGS_SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"doc": doc})
        for name, kind, doc in (
            ("recording", pa.string(), "path of the recording below the folder"),
            ("state", pa.string(), "`done`, or `failed`: no records"),
            ("detail", pa.string(), "why it failed, or what was wrong though it is done; empty: nothing"),
            ("fs", pa.int64(), "sample rate, Hz; null: it could not be opened"),
            ("channels", pa.list_(pa.string()), "names of the channels read"),
            ("time", pa.timestamp("ns", tz="UTC"), "UTC of its first sample; null: the recording does not tell"),
            ("n_samples", pa.int64(), "source samples per channel"),
            ("n_windows", pa.int64(), "windows analysed, over all channels"),
            ("n_skipped", pa.int64(), "windows not analysed, over all channels"),
            ("n_signatures", pa.int64(), "signatures"),
            ("n_contacts", pa.int64(), "contacts started"),
            ("n_gaps", pa.int64(), "gaps"),
            ("part", pa.string(), "name of its parts, without `.parquet`"),
        )
    ]
)


class ArchiveFolder:
    """One run's folder.

    Parameters
    ----------
    path : Path
        Made when it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this run; what an earlier one left unfinished is removed.

        Raises
        ------
        UsageError
            If another run holds it, or it holds something else.
        InputError
            If it cannot be written.
        """
        ours = {*TABLES, UNFINISHED, LOCK}
        foreign = self.path.exists() and not (self.path / MANIFEST).exists()
        if foreign and (not self.path.is_dir() or any(p.name not in ours for p in self.path.iterdir())):
            raise UsageError(f"--out {self.path}: holds something else than an archive run; choose an empty folder")
        try:
            for name in (*TABLES, UNFINISHED):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("w")
        except OSError as e:
            raise InputError(f"--out {self.path}: cannot be written: {e.strerror or e}") from e
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise UsageError(f"--out {self.path}: another 'tonald reprocess' is at work there") from e
            self._clear_unfinished()
            try:
                yield
            finally:
                self._clear_unfinished()

    def begin(self, job: Job, *, redo: bool) -> None:
        """State the settings of this run in the manifest.

        Raises
        ------
        UsageError
            If records there were made with other settings and ``redo`` is not given.
        """
        before = self.manifest()
        if before is not None and before.get("settings") != dict(job.settings):
            changes = "; ".join(differences(before.get("settings", {}), job.settings))
            if not redo:
                raise UsageError(
                    f"--out {self.path}: its records were made with other settings ({changes}): "
                    "choose another folder, or --redo to replace them all"
                )
        if redo:
            for part in sorted(p.stem for p in (self.path / "windows").glob("*.parquet")):
                remove_parts(self.path, part)
        if before is None or redo:
            self._write_manifest(job, {})

    def manifest(self) -> dict[str, Any] | None:
        """The manifest; None if there is none.

        Raises
        ------
        InputError
            If it is damaged.
        """
        path = self.path / MANIFEST
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as e:
            raise InputError(f"{path}: damaged ({e}): choose another folder") from e
        if not isinstance(found, dict):
            raise InputError(f"{path}: damaged (no object): choose another folder")
        return found

    def done(self, job: Job, units: Sequence[Unit]) -> tuple[dict[str, dict[str, Any]], int]:
        """Outcome of all that is done, by part, and how many units changed since: these are not among them.

        What is no longer among the units stays: its recording may have been moved away to make room.
        """
        stamps = {u.part: u.stamp for u in units}
        found, n_changed = {}, 0
        for part in sorted(p.stem for p in (self.path / "windows").glob("*.parquet")):
            about = about_part(self.path, part)
            if about is None or about.get("key") != job.key:
                continue
            if tuple(about["stamp"]) == stamps.get(part, tuple(about["stamp"])):
                found[part] = about
            else:
                n_changed += 1
        return found, n_changed

    def end(self, job: Job, outcomes: Mapping[str, dict[str, Any]], n_open: int) -> None:
        """Write what became of the recordings, and the counts."""
        rows = sorted(outcomes.values(), key=lambda o: str(o["recording"]))
        table = pa.Table.from_pylist([{**r, "time": r["t_first_sample_ns"]} for r in rows], RECORDINGS_SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_whole(self.path / RECORDINGS, sink.getvalue().to_pybytes())
        failed = [{"recording": r["recording"], "reason": r["detail"]} for r in rows if r["state"] == "failed"]
        write_whole(self.path / FAILURES, (json.dumps(failed, indent=1, ensure_ascii=False) + "\n").encode())
        names = ("n_windows", "n_skipped", "n_signatures", "n_contacts", "n_gaps")
        counts = {"n_recordings": len(rows), "n_failed": len(failed), "n_open": n_open}
        self._write_manifest(job, counts | {name: sum(r[name] for r in rows) for name in names})

    def _write_manifest(self, job: Job, counts: Mapping[str, int]) -> None:
        spec = Bundle.load(Path(job.bundle_path)).spec
        columns = {name: _meanings(schema) for name, schema in schemas(job.labels).items()}
        content = {
            "kind": "tonald archive",
            "schema": job.settings["schema"],
            "key": job.key,
            "settings": dict(job.settings),
            "labels": list(job.labels),
            "features": spec.to_dict(),
            "mask_shape": list(spec.shape[1:]),
            "columns": {**columns, "recordings": _meanings(RECORDINGS_SCHEMA)},
            "counts": dict(counts),
        }
        write_whole(self.path / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())

    def _clear_unfinished(self) -> None:
        for path in (self.path / UNFINISHED).iterdir():
            path.unlink(missing_ok=True)


def _meanings(schema: pa.Schema) -> dict[str, str]:
    return {f.name: f.metadata[b"doc"].decode() for f in schema}
