"""Trains, measures and exports the model that comes with the package, and writes its card and examples.

    python -m benchmarks.shipped_model [--run FOLDER | --calibrate]

Some 8 minutes on 2 cores. With --run, a run folder that an earlier call left is used instead of a new one. With
--calibrate, the weights stay, and the recordings that validated their training calibrate them anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from neuromoco import models
from neuromoco.checkpoint import replace_header
from neuromoco.config import dump_config, load_config, with_values
from neuromoco.datasets import frames_of, list_data
from neuromoco.evaluation.accuracy import Evaluation, evaluate
from neuromoco.evaluation.calibration import measure_confidence
from neuromoco.events import read_recording, write_atis
from neuromoco.export.targets import export
from neuromoco.recipes import load_recipe
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.manifest import MANIFEST, NET, REPORT
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.support.files import write_text
from neuromoco.train import train
from neuromoco.train.calibrate import calibrate
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.run_split import labelled_split
from neuromoco.train.task import seen_recordings

LEVEL = 0.05  # of errors among the answers
SETTINGS = {"stage": "all", "compare": False, "data": "digits", "pretrain.epochs": 30, "finetune.epochs": 40}
COMMAND = (
    "neuromoco train --stage all --recipe tiny --data digits --set pretrain.epochs=30 --set finetune.epochs=40 "
    "--set compare=false"
)


def write_examples() -> None:
    """One held-out recording of each digit."""
    listing = list_data("digits", "test")
    folder = models.FOLDER / "examples"
    shutil.rmtree(folder, ignore_errors=True)
    for label, name in enumerate(listing.class_names):
        path = listing.paths[listing.labels.index(label)]
        write_atis(folder / f"{name}.bin", read_recording(path))


def write_loihi(checkpoint: Path, folder: Path) -> dict[str, Any]:
    """What the integer twin needs; what runs in Lava is made by the export command."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / folder.name
        report = export(checkpoint, out, target="loihi", data=list_data("digits", "train").root)
        folder.mkdir(exist_ok=True)
        for name in (MANIFEST, NET, REPORT):
            shutil.copyfile(out / name, folder / name)
    return report


def calibrate_weights(checkpoint: Path) -> None:
    """Writes into the checkpoint what the validation recordings of its training say of its answers."""
    config = with_values(load_recipe("tiny"), SETTINGS)
    model, listing = TrainedClassifier(checkpoint, "cpu"), list_data("digits", "train", labelled=True)
    split = labelled_split(listing, config, config.finetune)
    result = evaluate(model, listing.only(split.validation))
    header = model.header
    _, store, *_ = frames_of(listing.known_by(header.read_options(listing.options)), header.frames)
    accuracy = header.metrics["validation_accuracy"]
    if seen_recordings(store, split.train) != header.seen or result.accuracy != accuracy:
        raise SystemExit("this is not the split that the model was trained with")
    assert result.logits is not None
    found = calibrate(result.logits.mean(1), result.labels, header.seed)
    replace_header(checkpoint, header.model_copy(update={"calibration": found}))


def card(
    name: str, config: str, accuracies: dict[str, Any], report: dict[str, Any], loihi: dict[str, Any], sure: str
) -> str:
    """The card, every figure from the run."""
    path = models.model_path(name, ".safetensors")
    header = TrainedClassifier(path, "cpu").header
    parity, seen = report["parity"], header.seen
    options = json.dumps(header.encoder.options) if header.encoder.options else "default options"
    rates = "\n".join(f"| {layer['name']} | {layer['rate']:.3f} |" for layer in parity["layers"])
    results = "\n".join(
        f"| {what} | {r['accuracy']:.1%} | {r['interval_95'][0]:.1%} to {r['interval_95'][1]:.1%} |"
        for what, r in accuracies.items()
    )
    flips = sum(layer["flipped"] for layer in parity["layers"])
    neurons = sum(layer["compared"] for layer in parity["layers"])
    compared = report["compared"]
    parity_text = (
        f"ONNX against torch on {compared['recordings']} recordings and {compared['noise']} of noise: largest logit "
        f"error\n{parity['largest_error']:.1e}, same answer on {parity['agreement']:.1%}, {flips} of {neurons:,} "
        "spikes and silences differ."
    )
    total = loihi["total"]
    loihi_text = (
        f"For Loihi ({loihi['dialect']} dialect, latency {loihi['latency']} steps): {total['neurons']:,} neurons, "
        f"{total['weights']:,} weights of 8 bits,\n{total['operations']:,.0f} synaptic operations and an estimated "
        f"{total['energy_nj'] / 1e3:.1f} uJ a recording (Davies et al. 2018, simulated\nbefore silicon), on "
        f"{loihi['compared']['recordings']} training recordings. Nothing was run on a chip."
    )
    return f"""# {name}

A spiking classifier of handwritten digits before a simulated event camera, to try the package with. It has seen no real
recording: on your camera it is an example, not a product.

| | |
|---|---|
| encoder | {header.encoder.name}, {options} |
| neuron | LIF, tau {header.encoder.neuron.tau}, threshold {header.encoder.neuron.v_threshold}, hard reset |
| frames | {header.frames.steps} steps by {header.frames.slice_by}, {header.frames.height} x {header.frames.width} |
| data | scikit-learn's digits (BSD) before this package's simulated camera; {seen.count} recordings to train on |
| split | training and test part of `digits`; a validation split of the training part chose the epoch |
| training | `{COMMAND}`, seed {header.seed}, epoch {header.epoch} chosen |
| licence | Apache-2.0 |
| versions | {", ".join(f"{k} {v}" for k, v in header.versions.items())} |

## Results

{accuracies["torch"]["recordings"]} held-out simulated recordings, one seed (95 % interval for such a set, Wilson):

| runtime | accuracy | interval |
|---|---|---|
{results}

{parity_text}

{loihi_text}

## Confidence

{sure}

## Spike rates

Spikes a neuron and step, on those recordings.

| layer | rate |
|---|---|
{rates}

## Settings

```yaml
{config.strip()}
```

Written by `python -m benchmarks.shipped_model`.
"""


def sureness(checkpoint: Path, result: Evaluation) -> str:
    """How sure the answers are, on the held-out recordings."""
    calibration = TrainedClassifier(checkpoint, "cpu").header.calibration
    assert calibration is not None
    found = measure_confidence(result, calibration, LEVEL)
    unsure, of = found.abstained, result.recordings
    assert unsure is not None
    wrong = f"{unsure.wrong} answers are wrong ({unsure.error or 0.0:.1%})"
    return f"""{calibration.in_words().capitalize()}; {len(calibration.wrong)} of these answers are wrong.
Expected calibration error on the {of} held-out recordings: {found.error.in_words()};
without the temperature {found.before.in_words()}. With `--abstain {LEVEL:g}` {unsure.answered} of {of} are
answered, and {wrong}. What is promised holds for recordings like those of the validation; the
held-out ones are the last fifth of each digit, probably by other writers."""


def main() -> None:
    """Makes everything in `models/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder of an earlier call")
    parser.add_argument("--calibrate", action="store_true", help="keep weights and card; calibrate and export again")
    options = parser.parse_args()
    name = models.DEFAULT
    checkpoint, exported = models.model_path(name, ".safetensors"), models.model_path(name)
    run = options.run or Path(tempfile.mkdtemp()) / "run"
    if options.calibrate:
        calibrate_weights(checkpoint)
    else:
        if not run.exists():
            train(with_values(load_recipe("tiny"), SETTINGS), run)
        shutil.copyfile(RunFolder(run / "finetune").best, checkpoint)
        write_examples()
    report = export(checkpoint, exported)
    folder = models.model_path(name, ".loihi")
    loihi = write_loihi(checkpoint, folder)
    test = list_data("digits", "test")
    by_torch = evaluate(TrainedClassifier(checkpoint), test)
    accuracies = {
        "torch": by_torch.to_json(),
        "ONNX Runtime": evaluate(OnnxNetwork(exported), test).to_json(),
        "Loihi, integer twin": evaluate(TwinNetwork(folder), test).to_json(),
    }
    sure = sureness(checkpoint, by_torch)
    if not options.calibrate:
        config = dump_config(load_config(run / "config.yaml"))
        write_text(models.model_path(name, ".md"), card(name, config, accuracies, report, loihi, sure))
    print({what: result["accuracy"] for what, result in accuracies.items()}, sure, sep="\n")


if __name__ == "__main__":
    main()
