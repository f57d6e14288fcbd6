"""Records to messages: topics, times, counts; what is not known is null."""

from types import SimpleNamespace

import numpy as np
import pytest

from daemon.clock import StreamClock
from daemon.frames import Gap, Signature, Skipped, SourceState, StreamEnd, StreamStart
from daemon.records import Recorder
from daemon.wire import Identity, Message, decode, encode, sequence_frame
from models.errors import WireError
from models.features import FeatureSpec

IDENTITY = Identity("vessel", "p" * 32, "b" * 16)
T_NS = 1_790_000_000_123_456_789


def recorder(**options: bool) -> Recorder:
    return Recorder(IDENTITY, FeatureSpec(), ("vessel_0", "vessel_1", "ambient"), **options)


def start(epoch: int = 0, channels: tuple[str, ...] = ("ch0", "ch1"), t_ns: int | None = T_NS) -> StreamStart:
    return StreamStart("s", epoch, 8000, channels, "label", t_ns)


def skipped(channel: str = "ch0", epoch: int = 0) -> Skipped:
    return Skipped("s", channel, epoch, 0, 8000, 68000, 8000, "gap", 5)


def test_clock_after_ten_years_at_any_rate_is_exact_to_the_ns() -> None:
    for fs in (2000, 44100, 48000, 192000, 8001):
        sample = 10 * 365 * 86400 * fs + 12345
        exact = T_NS * fs + sample * 10**9  # in 1/fs ns
        got = StreamClock(StreamStart("s", 3, fs, ("ch0",), "label", T_NS)).utc_ns(3, sample)
        assert got is not None
        assert abs(got * fs - exact) * 2 <= fs  # half a ns


def test_clock_without_anchor_or_in_another_epoch_does_not_know() -> None:
    assert StreamClock(start(t_ns=None)).utc_ns(0, 0) is None
    assert StreamClock(start()).utc_ns(1, 0) is None
    assert StreamClock(start()).utc_ns(0, 8000) == T_NS + 10**9


def test_stream_start_and_end_are_told_for_each_channel() -> None:
    r = recorder()
    told = list(r.process(start()))
    assert [m.topic for m in told] == ["status/ch0/", "status/ch1/"]
    assert {m.body["state"] for m in told} == {"running"}
    ended = list(r.process(StreamEnd("s", 0, 16000, final=True, problem="truncated")))
    assert [(m.body["state"], m.body["detail"], m.body["n_samples"], m.body["final"]) for m in ended] == [
        ("ended", "truncated", 16000, True)
    ] * 2


def test_refused_stream_keeps_its_reason_until_the_next_starts() -> None:
    r = recorder()
    list(r.process(start()))
    list(r.process(SourceState("s", "refused", "too slow")))
    assert {m.body["detail"] for m in r.process(StreamEnd("s", 0, 0))} == {"too slow"}
    list(r.process(start(epoch=1)))
    assert {m.body["detail"] for m in r.process(StreamEnd("s", 1, 0))} == {""}


def test_source_without_channels_yet_is_told_under_its_own_name() -> None:
    (waiting,) = recorder().process(SourceState("hw:1/0\n", "waiting", "no such card", 2))
    assert waiting.topic == "status/hw:1_0_/"
    assert waiting.body["channel"] is None
    assert waiting.body["n_retries"] == 2
    (gap,) = recorder().process(Gap("card", 0, 0, None, 10**9, 10**6, "lost"))
    assert (gap.topic, gap.body["lost_samples"], gap.body["err_ns"]) == ("gap/card/", None, 10**6)


def test_gap_counts_for_its_channels_and_is_told_once_in_status() -> None:
    r = recorder()
    list(r.process(start()))
    assert [m.topic for m in r.process(Gap("s", 0, 8000, 100, 12_500_000, 0, "lost"))] == ["gap/ch0/", "gap/ch1/"]
    (one,) = r.process(Gap("s", 0, 9000, 7, 875_000, 0, "invalid", channel=1))
    assert (one.topic, one.body["n_samples"], one.body["t_first_sample_ns"]) == ("gap/ch1/", 7, T_NS + 1_125_000_000)
    window, status = r.process(skipped("ch1"))
    assert (window.topic, status.topic) == ("window/ch1/", "status/ch1/")
    assert (status.body["lost_samples_total"], status.body["n_gaps"]) == (107, 2)
    assert [m.family for m in r.process(skipped("ch1"))] == ["window"]
    # counts go on in the next epoch; between epochs the clock's estimate counts: 2 s at 8 kHz
    list(r.process(StreamEnd("s", 0, 16000)))
    list(r.process(Gap("s", 0, 16000, None, 2 * 10**9, 10**6, "card lost")))
    assert [m.body["lost_samples_total"] for m in r.process(start(epoch=1))] == [16100, 16107]


def test_slot_of_unknown_time_says_null() -> None:
    r = recorder()
    list(r.process(start(t_ns=None)))
    (window,) = r.process(skipped())
    assert window.body["t_first_sample_ns"] is None
    assert window.body["analysed"] is False
    assert (window.body["reason"], window.body["lost_samples"], window.body["audio_digest"]) == ("gap", 5, None)


def test_signature_without_masks_sends_the_count_of_cells_alone(contract: SimpleNamespace) -> None:
    records = contract.known_records()
    r = recorder(masks=False)
    told: list[Message] = [m for record in records for m in r.process(record)]
    families = {"status", "window", "signature", "own_ship", "contact", "demon", "gap", "forensic"}
    assert {m.family for m in told} == families
    (signature,) = [m for m in told if m.family == "signature"]
    assert signature.arrays == ()
    assert signature.body["mask_cells"] == 3


def test_value_that_is_not_finite_is_null(contract: SimpleNamespace) -> None:
    known = next(x for x in contract.known_records() if isinstance(x, Signature))
    r = recorder()
    list(r.process(StreamStart("file", 1, 2000, ("ch0",))))
    odd = Signature(known.window, known.verdict, "unknown", float("nan"), np.zeros((8, 4), bool), ())
    (message,) = r.process(odd)
    assert message.body["probability"] is None
    decode([*encode(message), sequence_frame(0)])


def test_file_name_that_is_no_utf8_is_still_published() -> None:
    name = b"gr\xfcn.wav".decode("utf-8", "surrogateescape")
    for message in recorder().process(StreamStart("s", 0, 8000, ("ch0",), name)):
        assert decode([*encode(message), sequence_frame(0)])[0].body["label"] == "gr?n.wav"


def test_channel_name_that_would_break_topics_is_refused() -> None:
    with pytest.raises(WireError, match="'a/b' cannot be part of a topic"):
        list(recorder().process(start(channels=("a/b",))))
