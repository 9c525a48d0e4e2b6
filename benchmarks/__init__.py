"""Measurements against peers. `make bench` runs those that need no recordings of yours."""
