"""Reads a daemon's records with nothing but pyzmq and msgpack: python subscriber.py tcp://127.0.0.1:5565"""

import sys

import msgpack
import zmq

socket, last, n_lost = zmq.Context().socket(zmq.SUB), {}, 0
socket.connect(sys.argv[1])
socket.subscribe(b"")
while True:
    topic, packed, *arrays, number = socket.recv_multipart()
    record, n = msgpack.unpackb(packed), int.from_bytes(number, "little")
    key = record["publisher"], topic.decode()
    n_lost += max(0, n - last.get(key, n) - 1)  # a jump is loss
    if n > last.get(key, -1):  # else a repeat, meant for others
        last[key] = n
        print(key[1], n, record["first_sample"], record.get("label", ""), f"lost={n_lost}", flush=True)
    if key[1] == "heartbeat/" and record["final"]:
        n_lost += sum(high - last.get((key[0], topic), high) for topic, high in record["high_water"].items())
        sys.exit(f"{n_lost} lost" if n_lost else 0)
