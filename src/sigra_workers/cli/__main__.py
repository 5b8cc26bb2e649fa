"""``python -m sigra_workers.cli`` is the command `sigra-workers`."""

import sys

from sigra_workers.cli import main

if __name__ == "__main__":
    sys.exit(main())
