"""What Loihi's integers cost on real recordings, rounded plainly and trained with rounding, and whether Lava agrees.

    python -m benchmarks.loihi_accuracy --data N-MNIST/Train [--seeds N] [--runs FOLDER] [--lava N]

Three small encoders are trained from scratch on 60 % of the recordings, then 8 epochs more with rounded weights. Last
epochs are measured on the other 40 %, which decided nothing. Some 10 minutes a seed on 2 cores; runs that are in FOLDER
already are used again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuromoco.config import RunConfig, with_values
from neuromoco.datasets import list_recordings
from neuromoco.events import Recording, read_recording
from neuromoco.export.targets import export
from neuromoco.export.to_loihi.verify import verify_folder
from neuromoco.recipes import load_recipe
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.prediction import FrameNetwork
from neuromoco.train import train
from neuromoco.train.run_folder import RunFolder

ENCODERS = ("chain_tiny", "sew_resnet_tiny", "spikformer_tiny")
HELD_OUT = 0.4
CALIBRATION = 64  # training recordings on which scales are chosen
ROUNDED = {
    "stage": "finetune",
    "finetune.quantize": "loihi",
    "finetune.epochs": 8,
    "finetune.validation": HELD_OUT,
    "finetune.optimizer.lr": 3e-4,
    "finetune.optimizer.warmup_epochs": 1,
}


def trained(config: RunConfig, folder: Path) -> RunFolder:
    """A run, made now or found."""
    if not folder.exists():
        train(config, folder)
    return RunFolder(folder)


def answers(network: FrameNetwork, recordings: Sequence[Recording]) -> np.ndarray:
    """Class indices [S]."""
    frames = network.frames(recordings)
    return network.frame_logits(frames).mean(0).argmax(1)


def measure(name: str, kind: str, run: RunFolder, data: Path, lava: int) -> str:
    """A row of the table."""
    split = run.split()
    assert split is not None
    classifier = TrainedClassifier(run.last, "cpu")
    listing = list_recordings(data, labelled=True)
    labels = dict(zip(listing.names, listing.labels, strict=True))
    held, seen = split["validation"], split["train"]
    recordings = [read_recording(data / path) for path in held]
    wanted = np.array([labels[path] for path in held])
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "network.loihi"
        chosen = seen[:: max(1, len(seen) // CALIBRATION)]
        report = export(run.last, out, target="loihi", recordings=[read_recording(data / path) for path in chosen])
        source, twin = answers(classifier, recordings), answers(TwinNetwork(out), recordings)
        beside = "-"
        if lava:
            result = verify_folder(out, [data / path for path in held], lava)
            spikes = sum(layer["spikes"] for layer in result["layers"])
            differ = sum(layer["differ"] for layer in result["layers"])
            beside = (
                f"{differ} of {spikes:,} spikes, {result['logits_differ']} of {result['recordings'] * 10} logits differ"
            )
    cells = (
        name,
        kind,
        report["dialect"],
        f"{(source == wanted).mean():.1%}",
        f"{(twin == wanted).mean():.1%}",
        f"{(source == twin).mean():.1%}",
        beside,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of class folders")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, help="where runs are kept; by default nowhere")
    parser.add_argument("--lava", type=int, default=0, help="recordings to run in Lava too, of seed 0")
    options = parser.parse_args()
    runs = options.runs or Path(tempfile.mkdtemp())
    rows = []
    for name in ENCODERS:
        for seed in range(options.seeds):
            facts = {"seed": seed, "data": str(options.data), "encoder.name": name, "supervised.validation": HELD_OUT}
            plain = trained(with_values(load_recipe("tiny"), facts), runs / f"{name}-{seed}")
            facts = ROUNDED | {"seed": seed, "data": str(options.data), "init": str(plain.last)}
            rounded = trained(with_values(load_recipe("tiny"), facts), runs / f"{name}-{seed}-rounded")
            lava = options.lava if seed == 0 else 0
            for kind, run in {"rounded after training": plain, "trained with rounding": rounded}.items():
                rows.append(measure(name, f"{kind}, seed {seed}", run, options.data, lava))
    print("\n| encoder | weights | dialect | float32 | Loihi | same answer | Lava compared with the twin |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
