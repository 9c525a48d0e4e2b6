"""The kinds of input of the campaign."""

from tests.fuzz import aedat4_files, archives, event_files, hdf5_files, models, ros_files
from tests.fuzz import settings_and_runs as texts
from tests.fuzz.campaign import Kind

KINDS = [
    Kind("events", 5_000, event_files.seeds, event_files.mutate, event_files.attempt),
    Kind("hdf5", 3_000, hdf5_files.seeds, hdf5_files.mutate, event_files.attempt),
    Kind("aedat4", 5_000, aedat4_files.seeds, aedat4_files.mutate, event_files.attempt),
    Kind("npz", 20_000, archives.npz_seeds, archives.npz_mutate, event_files.attempt),
    Kind("mat", 8_000, archives.mat_seeds, archives.mat_mutate, event_files.attempt),
    Kind("ros", 1_500, ros_files.seeds, ros_files.mutate, event_files.attempt),
    Kind("onnx", 2_500, models.onnx_seeds, models.mutate_onnx, models.attempt_onnx),
    Kind("checkpoints", 5_000, models.checkpoint_seeds, models.mutate_checkpoint, models.attempt_checkpoint),
    Kind("loihi", 6_000, models.loihi_seeds, models.mutate_loihi, models.attempt_loihi),
    Kind(
        "settings",
        4_000,
        texts.settings_seeds,
        texts.mutate_settings,
        texts.attempt_settings,
    ),
    Kind("runs", 10_000, texts.run_seeds, texts.mutate_run, texts.attempt_run),
]
