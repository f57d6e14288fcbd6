"""The ring keeps the latest sound exactly, within budgets; what it cannot keep it tells; what is frozen is proof."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from daemon.cli import main
from daemon.config import Config, ForensicConfig
from daemon.forensic import ring as ring_module
from daemon.forensic.ring import ForensicRing
from daemon.forensic.store import Store
from daemon.frames import AudioBlock, ClockState, Contact, Event, Forensic, Gap, StreamEnd, StreamStart
from daemon.takes.side_car import Stamp, read_take
from tests.tools.conftest import listen

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")

FS = 4000
STAMP = Stamp("vessel", "fedcba9876543210", "0.1.0", "0123456789abcdef", "site-1")
T0 = 1_795_456_730_000_000_000
SETTINGS = {"max_mb": 100, "reserve_mb": 0, "before_s": 5.0, "after_s": 3.0}


def sound(n: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).integers(-(2**23), 2**23, (2, n)) / 2**23).astype(np.float32)


def start(epoch: int = 0) -> StreamStart:
    return StreamStart("card", epoch, FS, ("ch0", "ch1"), "a card", T0, ClockState("system"))


def blocks(x: np.ndarray, first: int = 0, step: int = 1000, epoch: int = 0) -> list[Event]:
    return [AudioBlock("card", epoch, first + a, FS, x[:, a : a + step]) for a in range(0, x.shape[1], step)]


def contact(first: int, n: int, label: str = "tug", event: str = "start") -> Contact:
    return Contact("card", "ch0", 0, FS, label, event, "heard", first, n, 3, 0, 0.9, 1.0, ())  # type: ignore[arg-type]


class Rig:
    """A ring, fed and closed."""

    def __init__(self, root: Path, **more: object) -> None:
        self.root = root
        self.ring = ForensicRing(root, ForensicConfig(**{**SETTINGS, **more}), STAMP)  # type: ignore[arg-type]
        self.ring.start()

    def feed(self, events: list[Event]) -> None:
        for event in events:
            self.ring.offer(event, wait=True)

    def close(self) -> list[Forensic]:
        self.ring.close(60.0)
        return list(self.ring.news())

    def frozen(self) -> list[Path]:
        return sorted((self.root / "frozen").iterdir())


def audio_in(folder: Path) -> list[tuple[np.ndarray, object]]:
    files = sorted(p for p in folder.iterdir() if p.suffix in (".flac", ".wav"))
    return [(soundfile.read(p, dtype="float32", always_2d=True)[0].T, read_take(p)) for p in files]


def test_a_contact_freezes_the_very_samples_around_its_start(tmp_path: Path) -> None:
    x, rig = sound(40 * FS), Rig(tmp_path)
    rig.feed([start(), *blocks(x[:, : 26 * FS])])
    rig.ring.record(contact(12 * FS, 10 * FS))  # heard from 12 s on, started at 22 s: 7 s to 25 s
    rig.feed([*blocks(x[:, 26 * FS :], 26 * FS), StreamEnd("card", 0, 40 * FS, final=True)])
    (news,) = rig.close()
    assert (news.event, news.first_sample, news.n_samples, news.n_missing) == ("frozen", 7 * FS, 18 * FS, 0)
    (folder,) = rig.frozen()
    assert folder.name == news.folder
    ((got, take),) = audio_in(folder)
    np.testing.assert_array_equal(got, x[:, 7 * FS : 25 * FS])
    assert take.t_first_sample_ns == T0 + 7_000_000_000
    assert (take.stamp, take.first_sample, take.began) == (STAMP, 7 * FS, "first sample wanted")
    assert take.extra["frozen"]["why"] == [f"contact tug on ch0 from sample {12 * FS}"]
    assert folder.name.startswith("20261123T17585")


def test_a_gap_within_is_a_file_of_its_own_and_counted(tmp_path: Path) -> None:
    x, rig = sound(30 * FS), Rig(tmp_path)
    gap = Gap("card", 0, 10 * FS, 700, 0, 0, "the card lost samples")
    rest = 10 * FS + 700
    rig.feed([start(), *blocks(x[:, : 10 * FS]), gap, *blocks(x[:, rest:], rest)])
    rig.ring.record(contact(8 * FS, 4 * FS))
    (news,) = rig.close()
    assert (news.n_samples, news.n_missing) == (12 * FS, 700)
    (a, take_a), (b, take_b) = audio_in(rig.frozen()[0])
    np.testing.assert_array_equal(a, x[:, 3 * FS : 10 * FS])
    np.testing.assert_array_equal(b, x[:, rest : 15 * FS])
    assert (take_b.first_sample, take_b.n_missing_before) == (rest, 700)
    assert "the card lost samples" in take_b.began
    assert take_a.t_first_sample_ns == T0 + 3_000_000_000


def test_contacts_that_touch_share_a_folder_and_others_are_left_alone(tmp_path: Path) -> None:
    x, rig = sound(60 * FS), Rig(tmp_path, labels=("tug", "ferry"))
    rig.feed([start(), *blocks(x[:, : 10 * FS])])
    for c in (contact(0, 9 * FS), contact(FS, 9 * FS, "ferry"), contact(0, FS, "unknown"), contact(0, FS, event="end")):
        rig.ring.record(c)
    rig.feed([*blocks(x[:, 10 * FS :], 10 * FS)])
    rig.ring.record(contact(54 * FS, 5 * FS))
    news = rig.close()
    assert [(n.first_sample, n.n_samples) for n in news] == [(0, 13 * FS), (49 * FS, 11 * FS)]
    assert news[1].n_missing == 2 * FS  # the daemon ended before the rest came
    assert "tug" in news[0].words
    assert "ferry" in news[0].words
    assert len(rig.frozen()) == 2


def test_budget_holds_and_the_oldest_go_first(tmp_path: Path) -> None:
    x, rig = sound(100 * FS), Rig(tmp_path, max_mb=1, frozen_mb=1)
    sizes = []
    rig.feed([start()])
    for block in blocks(x):
        rig.feed([block])
        sizes.append(sum(f.stat().st_size for f in list((tmp_path / "ring").iterdir()) if f.exists()))
    rig.ring.record(contact(93 * FS, 3 * FS))
    rig.close()
    assert max(sizes) < 1_000_000 + 2 * 10 * FS * 8  # the file under way, and one not yet counted
    held = [read_take(p).first_sample for p in (tmp_path / "ring").glob("*.flac")]
    assert min(held) > 50 * FS
    assert max(held) >= 90 * FS
    assert len(rig.frozen()) == 1


def test_frozen_has_a_budget_of_its_own_and_the_oldest_go_first(tmp_path: Path) -> None:
    x, rig = sound(200 * FS), Rig(tmp_path, frozen_mb=1)
    rig.feed([start()])
    for k in range(6):
        rig.feed(blocks(x[:, k * 30 * FS : (k + 1) * 30 * FS], k * 30 * FS))
        rig.ring.record(contact((k * 30 + 12) * FS, 10 * FS))
    news = rig.close()
    assert [n.event for n in news] == ["frozen"] * 6
    kept = [f.name for f in rig.frozen()]
    assert 1 <= len(kept) < 6
    assert kept == sorted(n.folder for n in news[-len(kept) :])
    assert sum(f.stat().st_size for f in (tmp_path / "frozen").rglob("*")) < 1_100_000


def test_full_disk_drops_counts_and_tells_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, rig, full = sound(60 * FS), Rig(tmp_path, reserve_mb=1), threading.Event()
    usage = shutil.disk_usage(tmp_path)

    def free(_path: object) -> object:
        return usage._replace(free=0 if full.is_set() else usage.free)

    monkeypatch.setattr(shutil, "disk_usage", free)
    rig.feed([start(), *blocks(x[:, : 20 * FS])])
    wait_until(lambda: not rig.ring._queue)
    full.set()
    rig.feed(blocks(x[:, 20 * FS : 40 * FS], 20 * FS))
    wait_until(lambda: not rig.ring._queue and not list((tmp_path / "ring").glob("*.flac")))
    full.clear()
    rig.feed(blocks(x[:, 40 * FS :], 40 * FS))
    news = rig.close()
    lost = [n for n in news if n.event == "lost"]
    assert sum(n.n_missing for n in lost) == lost[-1].lost_samples_total
    assert all("disk is full" in n.words for n in lost)
    takes = sorted((read_take(p) for p in (tmp_path / "ring").glob("*.flac")), key=lambda t: t.first_sample)
    resumed = next(t for t in takes if t.first_sample >= 39 * FS)
    assert resumed.first_sample == lost[-1].first_sample + lost[-1].n_missing


def test_folders_that_vanish_cost_sound_that_is_counted_and_not_the_daemon(tmp_path: Path) -> None:
    x, rig = sound(60 * FS), Rig(tmp_path)
    rig.feed([start(), *blocks(x[:, : 15 * FS])])
    wait_until(lambda: not rig.ring._queue)
    shutil.rmtree(tmp_path)
    rig.feed(blocks(x[:, 15 * FS :], 15 * FS))
    wait_until(lambda: not rig.ring._queue)
    rig.ring.record(contact(48 * FS, 5 * FS))
    news = rig.close()
    assert [n.event for n in news][-1] == "frozen"
    lost = [n for n in news if n.event == "lost"]
    assert sum(n.n_missing for n in lost) == lost[-1].lost_samples_total
    ((got, take),) = audio_in(rig.frozen()[0])
    np.testing.assert_array_equal(got, x[:, take.first_sample : take.first_sample + take.n_samples])
    takes = sorted((read_take(p) for p in (tmp_path / "ring").glob("*.flac")), key=lambda t: t.first_sample)
    assert takes[0].first_sample == lost[-1].first_sample + lost[-1].n_missing  # not one sample is unaccounted for
    assert lost[-1].first_sample == 10 * FS  # the file under way went, too


def wait_until(true: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_disk_that_stands_still_never_holds_up_live_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, go = Rig(tmp_path), threading.Event()
    real = rig.ring._keeper._writer.process
    monkeypatch.setattr(rig.ring._keeper._writer, "process", lambda event: (go.wait(60.0), real(event)))
    x = sound(60 * FS)
    for event in [start(), *blocks(x)]:
        rig.ring.offer(event, wait=False)  # returns though the disk does nothing
    assert rig.ring._waiting_s <= ring_module.QUEUE_S + 1.0
    go.set()
    wait_until(lambda: not rig.ring._queue)
    rig.ring.offer(AudioBlock("card", 0, 60 * FS, FS, sound(FS)), wait=False)
    (news,) = rig.close()
    assert news.event == "lost"
    assert "queue was full" in news.words
    takes = sorted((read_take(p) for p in (tmp_path / "ring").glob("*.flac")), key=lambda t: t.first_sample)
    assert takes[-1].first_sample == 60 * FS  # never joined over the hole
    assert takes[-1].n_missing_before == news.n_missing == sum([60 * FS, -sum(t.n_samples for t in takes[:-1])])


def test_an_earlier_run_is_taken_over_and_what_it_left_half_removed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.feed([start(), *blocks(sound(25 * FS))])
    rig.close()
    ring = tmp_path / "ring"
    (ring / "x.flac.part").write_bytes(b"half")
    (ring / "lone.json").write_text("{}")
    broken = next(ring.glob("*.flac")).with_suffix(".json")
    broken.write_text("{")
    store = Store(tmp_path, 10**8, 10**8, 0)
    assert sorted(p.suffix for p in ring.iterdir()) == [".flac", ".flac", ".json", ".json"]
    assert len(store.segments) == 2


def test_stream_ends_with_a_span_pending_and_a_new_one_begins(tmp_path: Path) -> None:
    x, rig = sound(20 * FS), Rig(tmp_path)
    rig.feed([start(), *blocks(x)])
    rig.ring.record(contact(10 * FS, 9 * FS))
    rig.feed([StreamEnd("card", 0, 20 * FS), start(1), *blocks(x, epoch=1)])
    (news,) = rig.close()
    assert (news.epoch, news.first_sample, news.n_samples, news.n_missing) == (0, 5 * FS, 15 * FS, 2 * FS)


def test_command_is_answered_and_freezes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tonald.toml"
    path.write_text(f'state_dir = "{tmp_path}"\n[forensic]\nmax_mb = 100\nreserve_mb = 0\n')
    config = Config.load(path)
    rig = Rig(tmp_path / "forensic")
    rig.feed([start(), *blocks(sound(20 * FS))])
    wait_until(lambda: not rig.ring._queue)
    assert main(["freeze", "--config", str(path), "tug", "abeam"]) == 0
    assert "freezing up to 5 s before and 3 s after" in capsys.readouterr().out
    (news,) = rig.close()
    assert (news.event, news.words) == ("frozen", "command: tug abeam")
    (folder,) = rig.frozen()
    body = json.loads(next(folder.glob("*.json")).read_text())
    assert body["frozen"]["why"] == ["command: tug abeam"]
    assert folder.stat().st_mode & 0o077 == 0
    assert config.forensic.max_mb == 100


def test_freeze_says_why_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tonald.toml"
    path.write_text(f'state_dir = "{tmp_path}"\n')
    assert main(["freeze", "--config", str(path)]) == 78
    path.write_text(f'state_dir = "{tmp_path}"\n[forensic]\nmax_mb = 100\n')
    assert main(["freeze", "--config", str(path)]) == 66
    assert "no daemon with forensic.max_mb ran there" in capsys.readouterr().err


def test_daemon_freezes_at_a_contact_and_verify_finds_the_records_in_it(
    heard: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tonald.toml"
    path.write_text(
        f'state_dir = "{tmp_path}"\n[source]\nkind = "file"\npath = "{heard.recording}"\n'
        f'[publish]\nendpoints = ["ipc://{tmp_path}/out"]\nwait_subscriber_s = 30.0\n'
        "[forensic]\nmax_mb = 100\nreserve_mb = 0\nbefore_s = 0.0\nafter_s = 3.0\n"
    )
    config = Config.load(path)
    listen(config, tmp_path / "records")
    (folder,) = (tmp_path / "forensic" / "frozen").iterdir()
    ((x, take),) = audio_in(folder)
    np.testing.assert_array_equal(x, heard.x[:, take.first_sample : take.first_sample + take.n_samples])
    sound_file = next(folder.glob("*.flac"))
    words = ["verify", str(tmp_path / "records"), str(sound_file), "--config", str(path), "--verbose"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    n_inside = 1 + (take.n_samples - 67051) // 8000  # windows of 8.38 s, one a second
    said = [line.split(":")[0] for line in out.splitlines()]
    assert said == ["equal"] * (2 * n_inside + 1)  # window and signature of each, and the verdict
    assert n_inside > 2
    assert "records outside" in err
    altered = soundfile.read(sound_file, dtype="int32")[0]
    altered[30_000] += 256  # one step of 24 bits
    soundfile.write(sound_file, altered, 8000, subtype="PCM_24")
    assert main(words) == 10
    assert "audio differs" in capsys.readouterr().out.splitlines()
    truncated = soundfile.read(sound_file, dtype="int32")[0][:-4000]
    soundfile.write(sound_file, truncated, 8000, subtype="PCM_24")
    assert main(words) == 10  # its side-car states more


def test_what_follows_an_exchange_is_stamped_with_what_is_in_force_then(tmp_path: Path) -> None:
    chain = {"channel": "ch0", "full_scale_peak_db": 170.5, "response_hz": [10.0, 1000.0], "response_db": [0.0, -1.5]}
    after = dataclasses.replace(STAMP, bundle="aaaaaaaaaaaaaaaa", calibration_id=None, hydrophones=(chain,))
    x, rig = sound(20 * FS), Rig(tmp_path)
    rig.feed([start(), *blocks(x[:, : 9 * FS])])
    rig.ring.use(after)
    rig.ring.use(after)  # no other file for what is the same
    rig.feed(blocks(x[:, 9 * FS :], 9 * FS))
    rig.feed([StreamEnd("card", 0, 20 * FS, final=True)])
    rig.close()
    takes = sorted((take for _, take in audio_in(tmp_path / "ring")), key=lambda t: t.first_sample)
    assert [(t.first_sample, t.stamp) for t in takes] == [(0, STAMP), (9 * FS, after), (19 * FS, after)]
    assert takes[0].ended == takes[1].began == "another bundle or calibration came into force"
    assert takes[1].n_missing_before == 0
    held = sorted(audio_in(tmp_path / "ring"), key=lambda pair: pair[1].first_sample)
    np.testing.assert_array_equal(np.concatenate([a for a, _ in held], axis=1), x)
