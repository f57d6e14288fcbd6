"""Bytes on the wire: kept to the contract in docs/wire, and nothing else accepted."""

import json
import struct
from types import SimpleNamespace
from typing import Any

import jsonschema
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.wire import Identity, Message, common, decode, encode, sequence_frame, topic_of
from daemon.wire_schema import ARRAY, CLOCK, COMMON, DETECTION, DTYPES, FAMILIES, LINE
from models.errors import WireError

IDENTITY = Identity("n", "p", None)


def gap_body(**changes: Any) -> dict[str, Any]:
    body = {
        **common(IDENTITY, "gap"), "source": "s", "channel": "c", "fs": 2000, "reason": "lost", "duration_ns": 1,
        "err_ns": 0, "journal_seq": None,
    }  # fmt: skip
    return body | changes


def packed(body: dict[str, Any], *arrays: bytes, topic: bytes = b"gap/c/") -> list[bytes]:
    return [topic, msgpack.packb({"arrays": [], **body}), *arrays, sequence_frame(0)]


def test_record_written_before_a_field_was_added_is_still_read(contract: SimpleNamespace) -> None:
    topic, body, *rest = contract.frames_of((contract.folder / "golden" / "window.bin").read_bytes())
    record = msgpack.unpackb(body)
    for name in ("rate_ppm", "rate_err_ppm", "n_steps"):
        del record["clock"][name]
    message, _ = decode([topic, msgpack.packb(record), *rest])
    assert message.body["clock"] == record["clock"]
    del record["clock"]["synced"]  # one of the first day must be there
    with pytest.raises(WireError, match="'synced' is missing"):
        decode([topic, msgpack.packb(record), *rest])


def test_every_family_has_a_golden_message(contract: SimpleNamespace) -> None:
    assert {f"{family}.bin" for family in FAMILIES} == set(contract.golden())


def test_encode_known_record_gives_the_golden_bytes(contract: SimpleNamespace) -> None:
    for name, data in contract.golden().items():
        assert data == (contract.folder / "golden" / name).read_bytes(), f"{name}: subscribers would see other bytes"


def test_decode_golden_bytes_gives_the_known_record(contract: SimpleNamespace) -> None:
    messages = contract.known_messages()
    for path in sorted((contract.folder / "golden").glob("*.bin")):
        message, sequence = decode(contract.frames_of(path.read_bytes()))
        known = messages[sequence]
        assert (message.topic, message.body) == (known.topic, known.body)
        assert [n for n, _ in message.arrays] == [n for n, _ in known.arrays]
        for (_, got), (_, want) in zip(message.arrays, known.arrays, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
            assert not got.flags.writeable


def test_golden_signature_is_read_by_hand(contract: SimpleNamespace) -> None:
    """Without our decoder: what the README says is enough to read a message."""
    topic, body, mask, number = contract.frames_of((contract.folder / "golden" / "signature.bin").read_bytes())
    record = msgpack.unpackb(body)
    assert topic == b"signature/ch0/vessel_0/"
    assert struct.unpack("<Q", number)[0] > 0
    assert record["arrays"] == [{"name": "mask", "dtype": "|u1", "shape": [8, 4]}]
    assert len(mask) == 32
    assert sum(mask) == record["mask_cells"] == 3  # of 0/32 … 31/32, three exceed 0.875
    assert record["t_first_sample_ns"] == 1_790_000_003_000_000_000  # sample 6000 at 2 kHz is 3 s after the anchor
    assert record["lines"][0]["freq_hz"] == 72.125
    clock = {"source": "file", "synced": None, "est_error_ns": 1_000_000, "fs_measured": None}
    assert record["clock"] == {**clock, "rate_ppm": None, "rate_err_ppm": None, "n_steps": 0}


def test_committed_schemas_are_those_of_the_code(contract: SimpleNamespace) -> None:
    committed = {p.name: p.read_text(encoding="utf-8") for p in (contract.folder / "schema").glob("*.json")}
    assert committed == contract.schemas()


def test_committed_readme_tables_are_those_of_the_code(contract: SimpleNamespace) -> None:
    text = (contract.folder / "README.md").read_text(encoding="utf-8")
    assert contract.readme(text) == text
    for fields in (COMMON, CLOCK, ARRAY, LINE, DETECTION, *FAMILIES.values()):
        for name in fields:
            assert f"| `{name}` |" in text, f"field {name} is in no table of the README"
    for family in FAMILIES:
        assert f"| `{family}/" in text, f"topic {family}/ is not in the README"


def test_every_known_message_keeps_to_its_json_schema(contract: SimpleNamespace) -> None:
    kinds = set()
    for message in contract.known_messages():
        schema = json.loads((contract.folder / "schema" / f"{message.family}.json").read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.Draft202012Validator(schema).validate(msgpack.unpackb(encode(message)[1]))
        kinds.add(message.family)
    assert kinds == set(FAMILIES)


def test_json_schema_and_decoder_refuse_the_same_messages(contract: SimpleNamespace) -> None:
    """Each field in turn missing, or of another type: both must refuse, else two truths exist."""
    for message in contract.known_messages():
        body = msgpack.unpackb(encode(message)[1])
        arrays = encode(message)[2:]
        validator = jsonschema.Draft202012Validator(json.loads(contract.schemas()[f"{message.family}.json"]))
        for name, field in {**COMMON, **FAMILIES[message.family]}.items():
            without, strange = {k: v for k, v in body.items() if k != name}, {**body, name: b"bytes"}
            assert validator.is_valid(without) == field.late, "what came later may be missing, nothing else"
            for broken in (strange,) if field.late else (without, strange):
                with pytest.raises(WireError):
                    decode([message.topic.encode(), msgpack.packb(broken), *arrays, sequence_frame(0)])
            if field.late:
                decode([message.topic.encode(), msgpack.packb(without), *arrays, sequence_frame(0)])
            wrong = {**body, name: {"a": []} if not isinstance(body[name], dict) else 1.5}
            assert not validator.is_valid(wrong)
            with pytest.raises(WireError):
                decode([message.topic.encode(), msgpack.packb(wrong), *arrays, sequence_frame(0)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_array_of_every_allowed_type_comes_back(dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4) % 2
    message = Message("gap/c/", gap_body(), (("a", array.astype(dtype)), ("empty", np.zeros((0, 3), dtype))))
    (_, a), (_, empty) = decode([*encode(message), sequence_frame(7)])[0].arrays
    np.testing.assert_array_equal(a, array.astype(dtype))
    assert a.dtype.str == dtype
    assert empty.shape == (0, 3)


def test_array_of_any_byte_order_and_layout_is_sent_little_endian_and_c_order() -> None:
    array = np.arange(6, dtype=">i4").reshape(2, 3).T
    frames = encode(Message("gap/c/", gap_body(), (("a", array),)))
    assert frames[2] == np.ascontiguousarray(array).astype("<i4").tobytes()
    np.testing.assert_array_equal(decode([*frames, sequence_frame(0)])[0].arrays[0][1], array)


@pytest.mark.parametrize("array", [np.array([{}]), np.zeros(2, "c16"), np.zeros(2, "S4"), np.zeros((1,) * 5)])
def test_array_of_other_type_or_too_many_axes_is_not_sent(array: np.ndarray) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        encode(Message("gap/c/", gap_body(), (("a", array),)))


@pytest.mark.parametrize("value", [np.float32(1), object(), 1 << 64, "\udc80"])
def test_value_that_is_not_plain_is_not_sent(value: object) -> None:
    with pytest.raises(WireError, match="gap/c/: the map cannot be packed"):
        encode(Message("gap/c/", gap_body(reason=value)))


def test_unknown_fields_and_families_are_kept() -> None:
    message, _ = decode(packed(gap_body(added_later={"x": [1]})))
    assert message.body["added_later"] == {"x": [1]}
    message, _ = decode(packed(gap_body(schema="tonald/bearing"), topic=b"bearing/c/"))
    assert message.family == "bearing"


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], "0 frames"),
        ([b"gap/c/", b"\x80"], "2 frames"),
        (packed(gap_body(), topic=b"gap/c"), "end in '/'"),
        (packed(gap_body(), topic=b"gap//"), "end in '/'"),
        (packed(gap_body(), topic=b"gap/\x1b[2J/"), "end in '/'"),
        (packed(gap_body(), topic=b"gap/\xff/"), "not UTF-8"),
        (packed(gap_body(), topic=b"x" * 300 + b"/"), "end in '/'"),
        (packed(gap_body(), topic=b"window/c/"), "does not belong to the topic"),
        ([*packed(gap_body())[:-1], b"\0" * 4], "4 bytes, not 8"),
        ([b"gap/c/", b"\xc1", sequence_frame(0)], "not a msgpack map"),
        ([b"gap/c/", b"\x93\x01\x02\x03", sequence_frame(0)], "not a map with string keys"),
        ([b"gap/c/", msgpack.packb({1: 2}), sequence_frame(0)], "not a msgpack map"),
        ([b"gap/c/", msgpack.packb(msgpack.ExtType(5, b"")), sequence_frame(0)], "extension type 5"),
        ([b"gap/c/", b"\x91" * 100_000, sequence_frame(0)], "not a msgpack map"),
        ([b"gap/c/", b"\0" * (1 << 21), sequence_frame(0)], "exceeds"),
        (packed(gap_body(v=2)), "contract version 2; this reader knows 1"),
        (packed(gap_body(v=True)), "contract version True"),
        (packed(gap_body(node=3)), "node is int, not str"),
        (packed(gap_body(fs=0)), "fs = 0 is less than 1"),
        (packed(gap_body(err_ns=True)), "err_ns is bool, not int"),
        (packed(gap_body(duration_ns=1.0)), "duration_ns is float, not int"),
        (packed(gap_body(clock={"source": "sun"})), "'sun' is not one of file, system, pps, none"),
        (packed(gap_body(arrays=[{}])), "arrays\\[0\\]: field 'name' is missing"),
        (packed(gap_body(), b"stray"), "0 arrays described, 1 frames sent"),
        (packed(gap_body(arrays=[{"name": "a", "dtype": "|O8", "shape": [1]}]), b"\0" * 8), "not one of"),
        (packed(gap_body(arrays=[{"name": "a", "dtype": "<f4", "shape": [3]}]), b"\0" * 8), "does not fit its frame"),
        (packed(gap_body(arrays=[{"name": "a", "dtype": "<f4", "shape": [1 << 40, 0]}]), b""), "does not fit"),
        (packed(gap_body(arrays=[{"name": "a", "dtype": "<f4", "shape": [-2]}]), b""), "less than 0"),
        (packed(gap_body(arrays=[{"name": "a", "dtype": "|b1", "shape": [1]}]), b"\2"), "neither 0 nor 1"),
    ],
)
def test_malformed_message_is_refused_and_the_fault_named(frames: list[bytes], says: str) -> None:
    with pytest.raises(WireError, match=says):
        decode(frames)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_mutated_message_is_decoded_or_refused_never_worse(contract: SimpleNamespace, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(contract.golden())))
    frames = [bytearray(f) for f in contract.frames_of(contract.golden()[name])]
    for _ in range(data.draw(st.integers(1, 4))):
        frame = data.draw(st.sampled_from(frames))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "drop", "double"])):
            case "flip" if frame:
                frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
            case "cut":
                del frame[data.draw(st.integers(0, len(frame))) :]
            case "insert":
                at = data.draw(st.integers(0, len(frame)))
                frame[at:at] = data.draw(st.binary(max_size=20))
            case "drop" if len(frames) > 1:
                frames.remove(frame)
            case "double":
                frames.append(frame)
    try:
        message, sequence = decode([bytes(f) for f in frames])
    except WireError:
        return
    assert 0 <= sequence < 1 << 64
    assert message.topic.endswith("/")
    assert message.body["v"] == 1
    assert set(COMMON) - {"arrays"} <= set(message.body)


@given(st.lists(st.binary(max_size=64), max_size=6))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(frames)


@pytest.mark.parametrize("part", ["", "a/b", "a\nb", "\x1b", "x" * 65])
def test_topic_of_part_that_would_break_filters_is_refused(part: str) -> None:
    with pytest.raises(WireError, match="cannot be part of a topic"):
        topic_of("window", part)


def test_topic_of_channels_that_share_a_beginning_are_no_prefixes_of_each_other() -> None:
    assert not topic_of("window", "ch10").startswith(topic_of("window", "ch1"))
