"""The kinds of input of the campaign."""

from tests.fuzz import aedat4_files, archives, event_files, hdf5_files, ros_files
from tests.fuzz.campaign import Kind

KINDS = [
    Kind("events", 4_000, event_files.seeds, event_files.mutate, event_files.attempt),
    Kind("hdf5", 4_000, hdf5_files.seeds, hdf5_files.mutate, event_files.attempt),
    Kind("aedat4", 4_000, aedat4_files.seeds, aedat4_files.mutate, event_files.attempt),
    Kind("npz", 12_000, archives.npz_seeds, archives.npz_mutate, event_files.attempt),
    Kind("mat", 6_000, archives.mat_seeds, archives.mat_mutate, event_files.attempt),
    Kind("ros", 1_500, ros_files.seeds, ros_files.mutate, event_files.attempt),
]
