"""A subscriber that misses nothing: what did not come is asked for, and given in order, once.

Records of signatures and gaps carry ``journal_seq``. Where a number is left out, where a topic's own count jumps, where
a heartbeat tells of records that never came, and after the daemon or the link was down, the span is asked for by replay
before anything newer is handed on. Whoever remembers the last number (`Repaired.seq`, `Repaired.journal`) goes on
there.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from daemon.curve import ClientKeys
from daemon.journal.client import Answer, ReplayClient, reachable
from daemon.subscriber import Subscriber
from daemon.wire import JOURNALLED, Message, decode
from models.errors import PublishError, WireError

__all__ = ["Repaired"]

_log = logging.getLogger(__name__)

ATTEMPTS, PATIENCE_S = 3, 5.0
"""To get an answer, and how long each may take; then the span is given up, and counted."""
PAGE = 500


class Repaired:
    """Wraps a `Subscriber`; used by one thread.

    Parameters
    ----------
    endpoint, topics, keys
        Of the `Subscriber`.
    since : int, optional
        Last ``journal_seq`` known: what came after it is given first. Without it, only what is missed from now on.
    journal : str
        Id of the journal that ``since`` belongs to; empty: whatever is there.
    replay : str, optional
        Where to ask; by default what the daemon names in its heartbeat.
    repair : bool
        False: nothing is asked for, only counted, as `Subscriber` does.
    """

    def __init__(
        self,
        endpoint: str,
        topics: Sequence[str] = (),
        *,
        keys: ClientKeys | None = None,
        since: int | None = None,
        journal: str = "",
        replay: str | None = None,
        repair: bool = True,
        hwm: int = 10_000,
    ) -> None:
        self.subscriber = Subscriber(endpoint, topics, hwm=hwm, keys=keys)
        self.frames: list[bytes] = []
        """Of the message that ``receive`` gave last."""
        self.seq, self.journal = since, journal
        """Last number accounted for, and the journal it belongs to; None: none yet."""
        self.n_replayed = self.n_missing = self.n_expired = 0
        """Records that came by replay; that the journal has lost; that were older than it keeps."""
        self.n_given_up = 0
        """Spans that nobody answered for."""
        self._endpoint, self._keys, self._replay = endpoint, keys, replay
        self._client: ReplayClient | None = None
        self._since = since
        self._cursor = since  # all up to here is accounted for, or in _ready
        self._upto = 0  # what lies between _cursor and this is being asked for; 0: nothing is
        self._attempts = 0
        self._asked_at: float | None = None
        self._ready: deque[_Ready] = deque()
        self._held: list[tuple[Message, list[bytes]]] = []  # newer than what is being asked for
        self._beat: Message | None = None
        self._publisher = ""
        self._repair = repair
        self._met = False  # a heartbeat has told of a journal
        self._n_lost = 0
        covered = self.subscriber.losses.topics
        self._sees_all = all(any(f"{family}/".startswith(t) for t in covered) for family in JOURNALLED)

    def __enter__(self) -> Repaired:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Message]:
        """Messages for ever, as they come."""
        while True:
            if (message := self.receive(60.0)) is not None:
                yield message

    def receive(self, timeout_s: float) -> Message | None:
        """Next message of the topics asked for, none of the journal's left out; None if none comes in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self._ready:
                ready = self._ready.popleft()
                self.seq = self.seq if ready.seq is None else ready.seq
                if ready.message is not None:
                    self.frames = ready.frames
                    return ready.message
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if self._upto:
                self._ask(min(5.0, max(0.2, left)))
            else:
                self._listen(left)

    def close(self) -> None:
        """Let go of all sockets; may be called twice."""
        self.subscriber.close()
        if self._client is not None:
            self._client.close()
            self._client = None

    # live

    def _listen(self, timeout_s: float) -> None:
        message = self.subscriber.receive(timeout_s, stop_at_heartbeat=True)
        if message is not None:
            self._take(message, list(self.subscriber.frames))
        beat = self.subscriber.heartbeat
        if beat is not None and beat is not self._beat:
            self._beat = beat
            self._judge_beat(beat)
            if not self._upto:
                self._release()

    def _take(self, message: Message, frames: list[bytes]) -> None:
        """A live message: hand it on, or ask first for what lies before it."""
        seq = _seq_of(message)
        if self._upto or (self._since is not None and self._beat is None):
            self._held.append((message, frames))
        elif seq is None or self._cursor is None:
            self._ready.append(_Ready(message, frames, seq))
            self._cursor = self._cursor if seq is None else seq
        elif seq > self._cursor:
            if seq > self._cursor + 1 and self._suspicious(message):
                self._held.append((message, frames))
                self._begin(seq)
            else:
                self._ready.append(_Ready(message, frames, seq))
                self._cursor = seq

    def _suspicious(self, message: Message) -> bool:
        """Whether a number left out is one that was for us: those of topics not asked for are left out rightly."""
        return self._sees_all or self._changed(message)

    def _changed(self, message: Message) -> bool:
        """The daemon is another than before, or a count of ours jumped since the last look."""
        lost, publisher = self._lost_now(), str(message.body["publisher"])
        new = lost > self._n_lost or (bool(self._publisher) and publisher != self._publisher)
        self._n_lost, self._publisher = lost, publisher
        return new

    def _lost_now(self) -> int:
        lost = self.subscriber.losses.lost
        return sum(n for topic, n in lost.items() if topic.partition("/")[0] in JOURNALLED)

    def _judge_beat(self, beat: Message) -> None:
        state = beat.body.get("journal")
        if not state or not state["id"]:
            self._changed(beat)
            return
        if self._replay is None:
            self._replay = reachable(self._endpoint, state["replay"])
        other = bool(self.journal) and state["id"] != self.journal
        first_time, self._met = other or not self._met, True
        self.journal = state["id"]
        next_seq = int(state["next_seq"])
        if other:
            _log.warning("the daemon keeps another journal than before: all of it is new")
            self._account_to(0)
        elif first_time and self._cursor is not None and next_seq < self._cursor + 1:
            _log.warning("the journal ends at %d, before %d: going on from there", next_seq - 1, self._cursor)
            self._account_to(next_seq - 1)
        if self._cursor is None:
            self._account_to(next_seq - 1)  # what was before our time
        assert self._cursor is not None
        changed = self._changed(beat)
        if next_seq > self._cursor + 1:
            if first_time or self._sees_all or changed:
                self._begin(next_seq)
            else:
                self._account_to(next_seq - 1)

    def _account_to(self, seq: int) -> None:
        """All up to ``seq`` is accounted for, once what is ready was handed on."""
        self._cursor = seq
        self._ready.append(_Ready(None, [], seq))

    # replay

    def _begin(self, upto: int) -> None:
        if not self._repair:
            self._end(upto - 1)
            return
        self._upto, self._attempts = max(self._upto, upto), 0

    def _ask(self, timeout_s: float) -> None:
        """One page of the span asked for; at its end what was held back is handed on."""
        assert self._cursor is not None
        if self._replay is None:
            self._give_up("the daemon names no replay that can be reached from here")
            return
        try:
            if self._client is None:
                self._client = ReplayClient(self._replay, self._keys)
            if self._asked_at is None:
                self._client.ask(self._cursor + 1, min(PAGE, self._upto - self._cursor - 1))
                self._asked_at = time.monotonic()
            answer = self._client.poll(timeout_s)
            if answer is None:
                if time.monotonic() < self._asked_at + PATIENCE_S:
                    return
                self._client.reset()
                raise PublishError(f"no answer from {self._replay} within {PATIENCE_S:g} s")
        except PublishError as e:
            self._asked_at = None
            self._attempts += 1
            if self._attempts >= ATTEMPTS:
                self._give_up(str(e))
            return
        self._attempts, self._asked_at = 0, None
        self._use(answer)

    def _use(self, answer: Answer) -> None:
        assert self._cursor is not None
        if answer.first_seq > self._cursor + 1:
            expired = min(answer.first_seq, self._upto) - self._cursor - 1
            self.n_expired += expired
            _log.warning("%d records up to journal_seq %d have expired", expired, answer.first_seq - 1)
        lost = sum(min(b, self._upto - 1) - a + 1 for a, b in answer.missing if a < self._upto)
        if lost:
            self.n_missing += lost
            _log.warning("%d records from journal_seq %d on are not in the journal", lost, answer.missing[0][0])
        for seq, frames in answer.records:
            if self._cursor < seq < self._upto:
                self._replayed(seq, frames)
        if answer.next_seq <= self._cursor + 1 and not answer.records:
            self._end(self._upto - 1)  # it has nothing of all that
            return
        self._account_to(min(answer.next_seq, self._upto) - 1)
        if answer.next_seq >= self._upto:
            self._end(self._upto - 1)

    def _replayed(self, seq: int, frames: tuple[bytes, ...]) -> None:
        try:
            message, _ = decode(frames)
        except WireError as e:
            self.subscriber.n_malformed += 1
            if self.subscriber.n_malformed == 1:  # the summary counts them
                _log.warning("replayed message passed over: %s", e)
            return
        if not message.topic.startswith(self.subscriber.losses.topics):
            return
        self._ready.append(_Ready(message, list(frames), seq))
        self.n_replayed += 1
        self.subscriber.losses.found(message.topic)
        self._n_lost = self._lost_now()

    def _end(self, seq: int) -> None:
        """The span is dealt with: what was held back goes on its way."""
        self._upto = 0
        self._account_to(seq)
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for message, frames in held:
            self._take(message, frames)

    def _give_up(self, why: str) -> None:
        self.n_given_up += 1
        _log.warning("what was missed is not repaired: %s", why)
        self._end(self._upto - 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """To be handed on; without a message only a number that is accounted for."""

    message: Message | None
    frames: list[bytes]
    seq: int | None


def _seq_of(message: Message) -> int | None:
    seq = message.body.get("journal_seq")
    return seq if isinstance(seq, int) else None
