"""Asks a daemon for signatures and gaps after a number: python replay.py tcp://127.0.0.1:5566 0"""

import sys

import msgpack
import zmq

socket, first = zmq.Context().socket(zmq.DEALER), int(sys.argv[2]) + 1
socket.connect(sys.argv[1])
while True:
    socket.send_multipart([b"tonald-replay/1", msgpack.packb({"first": first, "n": 500})])
    while (frames := socket.recv_multipart())[0] == b"record":
        kind, number, topic, packed, *arrays, sequence = frames
        record = msgpack.unpackb(packed)
        print(topic.decode(), int.from_bytes(number, "little"), record["first_sample"], record.get("label", ""))
    if frames[0] == b"error":
        sys.exit(msgpack.unpackb(frames[1])["message"])
    end = msgpack.unpackb(frames[1])
    if end["first_seq"] > first:
        print(f"expired up to {end['first_seq'] - 1}", file=sys.stderr)
    for a, b in end["missing"]:
        print(f"lost in the journal: {a} to {b}", file=sys.stderr)
    first = end["next"]
    if first >= end["end_seq"]:
        break
