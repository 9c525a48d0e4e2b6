"""Runs the campaign. Its functions are in other modules, because spawned processes do not import this one."""

import sys

from tests.fuzz.campaign import main
from tests.fuzz.kinds import KINDS

if __name__ == "__main__":
    sys.exit(main(KINDS))
