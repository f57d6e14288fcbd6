"""Writes records until it is killed and says what is on disk: ``python -m tests.journal.writer FOLDER``."""

import os
import sys
from pathlib import Path

from daemon.journal.journal import Budget, Journal


def main() -> None:
    journal = Journal(Path(sys.argv[1]), Budget(max_bytes=1 << 30, reserve_bytes=0, segment_bytes=1 << 16))
    n = 0
    while True:
        size = 1 + n % 5
        given = journal.append([[b"gap/ch0/", bytes([k]) * 300] for k in range(size)], lambda frames, _seq: frames)
        n += 1
        for seq in given:
            assert seq is not None
            os.write(1, b"%d\n" % seq)


if __name__ == "__main__":
    main()
