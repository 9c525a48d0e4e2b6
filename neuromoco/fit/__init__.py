"""Whether a recording is of the kind that a network was trained on: figures of it, compared with a reference."""
