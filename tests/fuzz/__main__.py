"""Runs the campaign. Its functions are in another module, because spawned processes do not import this one."""

import sys

from tests.fuzz.campaign import main

if __name__ == "__main__":
    sys.exit(main())
