"""``python -m daemon`` is ``tonald``."""

import sys

from daemon.cli import main

sys.exit(main())
