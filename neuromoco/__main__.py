"""`python -m neuromoco` is the command `neuromoco`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("neuromoco.app", run_name="__main__", alter_sys=True)  # the core knows the command by name only
