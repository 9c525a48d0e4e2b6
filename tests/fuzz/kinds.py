"""The kinds of input of the campaign."""

from tests.fuzz import event_files
from tests.fuzz.campaign import Kind

KINDS = [
    Kind("events", 8_000, event_files.seeds, event_files.mutate, event_files.attempt),
]
