"""`python -m neuromoco.app` is the command `neuromoco`."""

from neuromoco.app.cli import main

if __name__ == "__main__":
    main()
