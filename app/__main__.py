"""`python -m neuromoco.app` is the command `neuromoco`."""

from neuromoco.app.cli.main import main

if __name__ == "__main__":
    main()
