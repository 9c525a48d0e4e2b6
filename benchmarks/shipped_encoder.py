"""Puts a pre-trained encoder into models/, measures its spikes, and writes its card. docs/encoders.md has all commands.

    python -m benchmarks.shipped_encoder --run runs/encoder --corpus corpus --figures "N-MNIST=nmnist.jsonl" \\
        "DVS_Sign=dvs-sign.jsonl"

Figures are the lines that `benchmarks.few_labels` prints; those named `scratch` are what others are compared with, fold
by fold and draw by draw. With `--table`, only their tables are printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuromoco import models
from neuromoco.checkpoint import read_header, save_checkpoint
from neuromoco.classifier import Classifier
from neuromoco.errors import ParityError
from neuromoco.evaluation.features import features_by_step, load_encoder, spike_rates
from neuromoco.events import Recording, write_npz
from neuromoco.export.exporter import report_path
from neuromoco.export.targets import export
from neuromoco.frames import batch_frames
from neuromoco.simulate.corpus import FACTS, draw_recording
from neuromoco.simulate.pictures import installed_pictures
from neuromoco.support.files import read_json, write_text
from neuromoco.train.run_folder import RunFolder

NAME = "sew_resnet_tiny-pictures"
RECIPE = "encoder-small"
CHECKED = 64  # recordings of the corpus after its last
CHOOSING = 0  # the fold that settings were chosen on
SCRATCH = "scratch"
CPU = torch.device("cpu")


def held_out(corpus: dict[str, Any]) -> list[Recording]:
    """Recordings that the corpus would have next: of the same kind, never trained on."""
    stencils = installed_pictures()
    first = corpus["recordings"]
    return [draw_recording(stencils, corpus["seed"], index) for index in range(first, first + CHECKED)]


def spikes(checkpoint: Path, recordings: Sequence[Recording]) -> dict[str, float]:
    """The spike rate of each layer."""
    encoder, header = load_encoder(checkpoint, CPU)
    with spike_rates(encoder) as rates:
        features_by_step(encoder, batch_frames(recordings, header.frames), CPU)
    return rates


def loihi(checkpoint: Path, recordings: Sequence[Recording]) -> dict[str, Any]:
    """The report of a Loihi export of the encoder under a head of two classes that is not trained."""
    encoder, header = load_encoder(checkpoint, CPU)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        folder, file = Path(place) / "data", Path(place) / "classifier.safetensors"
        for number, recording in enumerate(recordings):
            (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
            write_npz(folder / str(number % 2) / f"{number}.npz", recording)
        save_checkpoint(
            file, Classifier(encoder, 2), header.model_copy(update={"kind": "classifier", "class_names": ("0", "1")})
        )
        out = Path(place) / "out"
        try:
            return export(file, out, target="loihi", data=folder)
        except ParityError:  # a head that learned nothing changes its answers by rounding; what was counted is counted
            return dict(read_json(report_path(out)))


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Accuracies of folds that chose nothing."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    return [line for line in lines if line["fold"] != CHOOSING]


def figures_table(lines: list[dict[str, Any]]) -> str:
    """A row for each name, a column for each number of labels: accuracy, and points above scratch with an interval."""
    labelled = [line for line in lines if "labels" in line]
    if not labelled:
        return "Few labels were not measured on folds that chose nothing."
    numbers = sorted({line["labels"] for line in labelled})
    names = list(dict.fromkeys(line["name"] for line in labelled))
    found = {(line["name"], line["labels"], line["fold"], line["draw"]): 100 * line["accuracy"] for line in labelled}
    rows = [
        "| start | " + " | ".join(f"{number} labels" for number in numbers) + " |",
        "|---" * (len(numbers) + 1) + "|",
    ]
    for name in names:
        cells = [_cell(found, name, number) for number in numbers]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(found: dict[tuple[str, int, int, int], float], name: str, number: int) -> str:
    mine = {key[2:]: value for key, value in found.items() if key[:2] == (name, number)}
    base = {key[2:]: value for key, value in found.items() if key[:2] == (SCRATCH, number)}
    if not mine:
        return ""
    mean = f"{np.mean(list(mine.values())):.1f}"
    pairs = [(place, mine[place] - base[place]) for place in mine if place in base]
    if name == SCRATCH or not pairs:
        return f"{mean} ({len(mine)})"
    if len({fold for (fold, _), _ in pairs}) == 1:
        return f"{mean} ({len(mine)}), {np.mean([gain for _, gain in pairs]):+.1f}"
    by_fold = [np.mean([gain for (fold, _), gain in pairs if fold == one]) for one in {place[0] for place, _ in pairs}]
    gain = np.mean([gain for _, gain in pairs])
    return f"{mean} ({len(mine)}), {gain:+.1f} ± {interval(np.array(by_fold)):.1f}"


def interval(gains: np.ndarray[Any, Any]) -> float:
    """Half of the 95 % interval of the mean gain, by Student's t over folds; NaN of one fold."""
    from scipy.stats import t

    count = len(gains)
    return float(t.ppf(0.975, count - 1) * gains.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")


def probes_table(lines: list[dict[str, Any]]) -> str:
    """Linear probes with all labels of the training folds: means over folds, and over paired differences."""
    probes = [line for line in lines if line["stage"] == "probe" and line["name"] == "shipped"]
    values = {of: np.array([100 * line[of]["linear"] for line in probes]) for of in ("pretrained", "random", "counts")}
    if not probes:
        return ""
    words = {"pretrained": "this encoder", "random": "random weights", "counts": "event counts"}
    cells = [f"{words[of]} {values[of].mean():.1f}" for of in values]
    above = ", ".join(
        f"{(values['pretrained'] - values[of]).mean():+.1f} ± {interval(values['pretrained'] - values[of]):.1f} above "
        f"{words[of]}"
        for of in ("random", "counts")
    )
    return f"Linear probe, all labels, {len(probes)} folds: {', '.join(cells)} %; {above}."


def tables(sets: list[str]) -> str:
    """The figures of each set, given as NAME=FILE."""
    parts = []
    for word in sets:
        title, _, file = word.partition("=")
        lines = read_lines(Path(file))
        parts.append(f"### {title}\n\n{figures_table(lines)}\n\n{probes_table(lines)}\n")
    return "\n".join(parts)


def card(checkpoint: Path, run: RunFolder, made: dict[str, Any], figures: str) -> str:
    """The card, every figure from the run or from a command."""
    header, recordings = read_header(checkpoint), held_out(made)
    rates, report = spikes(checkpoint, recordings), loihi(checkpoint, recordings[:16])
    total = report["total"]
    seconds = sum(line["seconds"] for line in run.history())
    sources = "\n".join(
        f"| {name} | {one['pictures']:,} | {one['licence']} |" for name, one in made["pictures"].items()
    )
    command = f"neuromoco corpus --out corpus --recordings {made['recordings']} --seed {made['seed']}"
    frames = header.frames
    size = checkpoint.stat().st_size
    return f"""# {NAME}

A small spiking encoder to start from, for event cameras of 34 to 64 pixels, or larger ones whose pixels are counted
together. It has seen no real recording, and no label.

```sh
neuromoco train --init {NAME} --data FOLDER
neuromoco probe {NAME} --data FOLDER --kind linear
neuromoco embed {NAME} FOLDER --out features.npz
```

| | |
|---|---|
| encoder | {header.encoder.name}, {json.dumps(header.encoder.options)}, {size / 1e3:.0f} kB |
| neuron | LIF, tau {header.encoder.neuron.tau}, threshold {header.encoder.neuron.v_threshold}, hard reset |
| frames | {frames.steps} steps by {frames.slice_by}, {frames.height} x {frames.width}; others: `--set frames.steps=8` |
| recordings | {made["recordings"]:,}: `{command}` |
| training | the three commands of docs/encoders.md, recipe `{RECIPE}`, seed {header.seed} |
| departures | of 16 epochs of eight steps, the first 8 had the rates of a run of 24, and the last 2 were left out |
| took | 27 epochs of four steps, then {header.epoch} of eight, of which the last ones took {seconds / 60:.0f} minutes |
| licence | Apache-2.0 |
| versions | {", ".join(f"{k} {v}" for k, v in header.versions.items())} |

Pictures before the simulated camera; MNIST's, which N-MNIST shows, are not among them:

| source | pictures | licence |
|---|---|---|
{sources}

## Good for

Features of recordings without training: a linear probe on them beats one on event counts (below), of things whose shape
or motion tells them apart on a small sensor, in recordings of some tens of milliseconds to some seconds.

## Not good for

Fine-tuning with few labels: so far, training from scratch is as good or better (below). It was trained for 26 minutes
on a part of a core, and its loss was still falling.

Details smaller than a seventeenth of the field (give it larger frames); slow or very long recordings whose order of
parts matters; depth, optical flow or detection. It was never measured on hardware, and it is no classifier: without
labels it answers nothing.

## Figures

Accuracy in %, mean over folds and draws of labels (their number), the last weights; then points above from scratch,
the same network with the same labels, seeds and folds, with the 95 % interval over folds. Settings were chosen on fold
0, which is left out. docs/encoders.md has the commands.

{figures}
## Spikes and energy

Spikes a neuron and step, on {CHECKED} recordings of the corpus that it was not trained on:

| layer | rate |
|---|---|
{chr(10).join(f"| {name} | {rate:.3f} |" for name, rate in rates.items())}

On Loihi (integer twin, head of two classes, not trained): {total["neurons"]:,} neurons, {total["weights"]:,} weights of
8 bits, {total["operations"]:,.0f} synaptic operations and an estimated {total["energy_nj"] / 1e3:.1f} uJ a recording
(Davies et al. 2018, simulated before silicon). Nothing was run on a chip.

Written by `python -m benchmarks.shipped_encoder`.
"""


def main() -> None:
    """Publishes the encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the run of its pre-training")
    parser.add_argument("--corpus", type=Path, help="the corpus that it was trained on")
    parser.add_argument("--figures", nargs="+", default=[], metavar="SET=FILE", help="lines of benchmarks.few_labels")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    options = parser.parse_args()
    figures = tables(options.figures)
    if options.table:
        print(figures)
        return
    run, checkpoint = RunFolder(options.run), models.model_path(NAME, ".safetensors")
    shutil.copyfile(run.last, checkpoint)
    write_text(models.model_path(NAME, ".md"), card(checkpoint, run, read_json(options.corpus / FACTS), figures))


if __name__ == "__main__":
    main()
