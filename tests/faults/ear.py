"""A subscriber that accounts for every sample: every slot of the grid is one record, and what is lost was told."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from daemon.curve import ClientKeys
from daemon.subscriber import Subscriber
from models.bundle import Bundle
from models.feature_spec import FeatureSpec
from tests.faults.catalogue import Broken, promise
from tests.faults.vessel import wait_for

SPEC = Bundle.load(Bundle.shipped()).spec


@dataclass
class Account:
    """What a run added up to."""

    n_slots: int = 0
    n_analysed: int = 0
    n_epochs: int = 0
    n_signatures: int = 0
    gaps: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        lost = self.n_slots - self.n_analysed
        return (
            f"{self.n_slots} slots = {self.n_slots} records ({self.n_analysed} analysed, {lost} declared), "
            f"{len(self.gaps)} gap records, {self.n_epochs} epoch(s)"
        )


class Ear:
    """Listens in a thread of its own until it is closed."""

    def __init__(self, endpoint: str, topics: Sequence[str] = (), keys: ClientKeys | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.n_lost = self.n_malformed = 0
        self.came: list[float] = []
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._subscribed = threading.Event()
        self._words = endpoint, topics, keys
        self._thread = threading.Thread(target=self._listen, name="ear")
        self._thread.start()
        self._subscribed.wait(10)

    def _listen(self) -> None:
        endpoint, topics, keys = self._words
        try:
            with Subscriber(endpoint, topics, keys=keys) as subscriber:
                self._subscribed.set()
                while not self._over.is_set():
                    if (message := subscriber.receive(0.1)) is not None:
                        self.bodies.append({"family": message.family, "topic": message.topic, **message.body})
                        self.came.append(time.monotonic())
                    self.n_lost, self.n_malformed = subscriber.losses.n_lost, subscriber.n_malformed
        except BaseException as e:  # noqa: BLE001  (raised in the thread that asks)
            self._failure = e
        finally:
            self._subscribed.set()

    def __enter__(self) -> Ear:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def of(self, family: str, **wanted: Any) -> list[dict[str, Any]]:
        """Records of a family, whose fields are as given."""
        found = [b for b in list(self.bodies) if b["family"] == family]
        return [b for b in found if all(b.get(k) == v for k, v in wanted.items())]

    def await_some(
        self, family: str, n: int = 1, timeout_s: float = 90.0, test: Callable[[dict[str, Any]], bool] | None = None,
        **wanted: Any,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Until ``n`` such records are there."""

        def there() -> list[dict[str, Any]] | None:
            found = [b for b in self.of(family, **wanted) if test is None or test(b)]
            return found if len(found) >= n else None

        return wait_for(there, timeout_s, f"{n} {family}/ records {wanted or ''}")

    def await_end(self, timeout_s: float = 60.0) -> None:
        """Until the last heartbeat."""
        self.await_some("heartbeat", timeout_s=timeout_s, final=True)

    def account(self, *, whole: bool = True, from_start: bool = True, lost_ok: bool = False) -> Account:
        """Add everything up.

        Parameters
        ----------
        whole : bool
            Each epoch must have told its length, and have as many slots as follow from it.
        from_start : bool
            The first slot heard must be the first of the epoch.
        lost_ok : bool
            Messages may be missing here (they are counted by the subscriber).

        Raises
        ------
        Broken
            If anything does not add up.
        """
        promise(lost_ok or self.n_lost == 0, f"{self.n_lost} messages lost on the way")
        promise(self.n_malformed == 0, f"{self.n_malformed} malformed messages")
        account = Account(n_signatures=len(self.of("signature")))
        for publisher in dict.fromkeys(b["publisher"] for b in list(self.bodies)):
            said = [b for b in list(self.bodies) if b["publisher"] == publisher]
            _add_run(account, said, whole, from_start, lost_ok)
        return account


def _add_run(account: Account, said: list[dict[str, Any]], whole: bool, from_start: bool, lost_ok: bool) -> None:
    told_spec = next((b["features"] for b in said if b["family"] == "info"), None)
    spec = SPEC if told_spec is None else FeatureSpec.from_dict(told_spec)
    windows = defaultdict(list)
    for b in said:
        if b["family"] == "window":
            windows[b["source"], b["channel"], b["epoch"]].append(b)
    gaps = [b for b in said if b["family"] == "gap"]
    account.gaps += gaps
    lengths = {
        (b["source"], b["channel"], b["epoch"]): b["n_samples"]
        for b in said if b["family"] == "status" and b["state"] == "ended" and b["n_samples"] is not None
    }  # fmt: skip
    account.n_epochs += len({(s, e) for s, _, e in windows} | {(s, e) for s, _, e in lengths})
    for key, slots in windows.items():
        source, channel, epoch = key
        mine = [g for g in gaps if (g["source"], g["channel"], g["epoch"]) == key]
        _check_slots(spec, key, slots, mine, lengths.get(key), whole, from_start, lost_ok)
        account.n_slots += len(slots)
        account.n_analysed += sum(w["analysed"] for w in slots)
        later = [k for k in windows if k[:2] == (source, channel) and k[2] == epoch + 1]
        if later and not any(g["n_samples"] is None for g in mine):
            raise Broken(f"{channel}: epoch {epoch + 1} follows epoch {epoch} without a gap between")
    if whole:
        for key, n_samples in lengths.items():
            fs = next(b["fs"] for b in said if b["family"] == "status" and b["source"] == key[0] and b["fs"])
            if key not in windows and from_start and spec.n_windows(fs, n_samples):
                raise Broken(f"{key}: {n_samples} samples and no record")
    if not lost_ok:
        told = sum(b["n_signatures"] for b in said if b["family"] == "window")
        n = sum(b["family"] == "signature" for b in said)
        promise(not whole or not from_start or told == n, f"windows tell of {told} signatures, {n} came")


def _check_slots(
    spec: FeatureSpec, key: tuple[str, str, int], slots: list[dict[str, Any]], gaps: list[dict[str, Any]],
    n_samples: int | None, whole: bool, from_start: bool, lost_ok: bool,
) -> None:  # fmt: skip
    numbers = [w["grid_index"] for w in slots]
    first = 0 if from_start else numbers[0]
    want = list(range(first, numbers[-1] + 1))
    if numbers != want and not (lost_ok and sorted(set(numbers)) == numbers):
        raise Broken(f"{key}: slots {sorted(set(want) - set(numbers))[:5]} missing or out of order")
    fs = slots[0]["fs"]
    holes = [(g["first_sample"], g["first_sample"] + g["n_samples"]) for g in gaps if g["n_samples"] is not None]
    for w in slots:
        promise(w["first_sample"] == w["grid_index"] * spec.step(fs), f"{key}: slot {w['grid_index']} is off the grid")
        begin, end = w["first_sample"], w["first_sample"] + w["n_samples"]
        n_hit = sum(max(0, min(b, end) - max(a, begin)) for a, b in holes)
        if w["analysed"]:
            promise(n_hit == 0, f"{key}: slot {w['grid_index']} was analysed across a gap of {n_hit} samples")
        elif w["reason"] in ("gap", "invalid") and whole:
            promise(w["lost_samples"] == n_hit, f"{key}: slot {w['grid_index']} lost {w['lost_samples']}, gaps {n_hit}")
    if whole:
        promise(n_samples is not None, f"{key}: the epoch's length was not told")
        n = spec.n_windows(fs, n_samples or 0)
        promise(lost_ok or numbers[-1] + 1 == n, f"{key}: {numbers[-1] + 1} slots, {n} follow from {n_samples} samples")
