"""Entries of a journal file: whole ones are always found, damaged ones never taken for whole."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.journal.entry import FILE_HEAD, MAGIC, MAX_PAYLOAD, Entry, entries_of, pack, unpack_at

ENTRIES = [Entry(n, 1_790_000_000_000_000_000 + n, (b"gap/ch0/", bytes([n]) * (20 * n), b"")) for n in range(1, 6)]
FILE = FILE_HEAD + b"".join(map(pack, ENTRIES))


def same(a: Entry, b: Entry) -> bool:
    return (a.seq, a.t_ns, a.frames) == (b.seq, b.t_ns, b.frames)


def found(data: bytes) -> list[Entry]:
    return [e for _, e, _ in entries_of(data)]


def seqs(data: bytes) -> list[int]:
    return [e.seq for e in found(data)]


def test_what_is_packed_is_found() -> None:
    got = found(FILE)
    assert len(got) == len(ENTRIES)
    assert all(same(a, b) for a, b in zip(got, ENTRIES, strict=True))
    assert list(entries_of(FILE))[-1][2] == len(FILE)


def test_cut_anywhere_gives_an_exact_prefix() -> None:
    ends = [end for _, _, end in entries_of(FILE)]
    for cut in range(len(FILE_HEAD), len(FILE)):
        assert seqs(FILE[:cut]) == [n for n, end in enumerate(ends, 1) if end <= cut]


def test_one_bad_bit_costs_one_entry_at_most() -> None:
    rng = random.Random(0)
    spans = [(at, end) for at, _, end in entries_of(FILE)]
    for at in range(len(FILE_HEAD), len(FILE)):
        bad = bytearray(FILE)
        bad[at] ^= 1 << rng.randrange(8)
        hit = next(n for n, (a, b) in enumerate(spans, 1) if a <= at < b)
        assert seqs(bytes(bad)) == [n for n in range(1, 6) if n != hit]


@pytest.mark.parametrize("tail", [bytes(5000), MAGIC * 50, MAGIC + b"\xff" * 200, b"\x00" + MAGIC])
def test_garbage_behind_is_passed_over(tail: bytes) -> None:
    assert seqs(FILE + tail) == [1, 2, 3, 4, 5]
    assert seqs(FILE + tail + pack(Entry(9, 0, (b"x",)))) == [1, 2, 3, 4, 5, 9]


def test_an_entry_that_claims_too_much_is_none() -> None:
    head = MAGIC + struct.pack("<IQqI", MAX_PAYLOAD + 1, 1, 0, 0)
    assert unpack_at(head + bytes(100), 0) is None


def test_too_many_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        pack(Entry(1, 0, (b"",) * 100))
    with pytest.raises(ValueError, match="do not fit"):
        pack(Entry(1, 0, ()))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=5), max_size=6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    st.binary(max_size=80),
)
def test_whatever_happens_to_a_file_only_whole_entries_come_out(
    records: list[list[bytes]], hits: list[tuple[int, int]], tail: bytes
) -> None:
    written = [Entry(n, n, tuple(frames)) for n, frames in enumerate(records, 1)]
    data = bytearray(FILE_HEAD + b"".join(map(pack, written)))
    for at, value in hits:
        data[at % len(data)] = value
    by_seq = {e.seq: e for e in written}
    for entry in found(bytes(data) + tail):
        if entry.seq in by_seq and same(entry, by_seq[entry.seq]):
            continue
        assert pack(entry) in tail or pack(entry) in bytes(data), "made up"
        assert hits or tail
