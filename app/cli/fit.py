"""Commands about what fits a model: a reference for a checkpoint, and recordings that are watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from neuromoco.app.cli.arguments import crop_in, microseconds
from neuromoco.app.cli.command_group import AsJson, Backend, Device, Quiet, app, complain, out, print_json, show
from neuromoco.app.cli.events import CropWord
from neuromoco.app.cli.predict import Model, model_or_default
from neuromoco.app.cli.recordings import READING, SAMPLES, takes_recordings
from neuromoco.app.cli.tables import place_of
from neuromoco.checkpoint import SeenRecordings
from neuromoco.config import RecordingsConfig
from neuromoco.datasets.samples import read_options
from neuromoco.errors import CheckpointError, ConfigError, NeuromocoError
from neuromoco.fit.drift import RUN, Drift
from neuromoco.fit.reference import DURATION_SHARE
from neuromoco.fit.verdict import seconds
from neuromoco.runtime.prediction import Prediction
from neuromoco.support.console import escape
from neuromoco.support.extras import need
from neuromoco.support.files import files_in


@app.command()
@takes_recordings(READING | SAMPLES)
def reference(
    model: Annotated[Path, typer.Argument(help="A checkpoint or a run of a classifier, without or with a reference.")],
    data: Annotated[str, typer.Option(help="The recordings that it was trained on; of a data set, its training part.")],
    crop: CropWord = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Write into a checkpoint what its training recordings are like, so that its answers say what does not fit.

    Weights stay as they are. Options that made samples of the recordings for the training are needed here, too. Export
    it again afterwards.

    Example: neuromoco reference walk.safetensors --data train/
    """
    need("train")
    from neuromoco.checkpoint import best_weights, read_header, replace_header
    from neuromoco.datasets import frames_of, list_data
    from neuromoco.datasets.references import reference_of
    from neuromoco.hub.names import is_shared

    path = best_weights(model)
    if is_shared(model):
        raise CheckpointError(f"{model}: is shared, and is not written to; copy {path} and give the copy")
    header = read_header(path)
    if header.kind != "classifier":
        raise CheckpointError(f"{path}: is an encoder without classes; a reference is for a classifier")
    listing = list_data(data, "train", labelled=False, recordings=recordings).of_part(crop_in(crop))
    listing, store, *_ = frames_of(listing.known_by(header.read_options(listing.options)), header.frames)
    _check_durations(data, store.durations, header.seen)
    found = reference_of(listing, range(len(listing)), store.durations, header.frames)
    if found is None:
        raise ConfigError(f"{data}: {len(listing)} recordings; a reference needs 10 or more")
    replace_header(path, header.model_copy(update={"fit": found}))
    facts = {
        "file": str(path),
        "recordings": found.count,
        "shortest_us": found.shortest_us,
        "longest_us": found.longest_us,
    }
    before = header.fit.count if header.fit else 0
    fewer = f", fewer than the {before} that it described" if found.count < before else ""
    show(facts, as_json, lambda: f"{escape(str(path))}: describes {found.count} recordings{fewer}; export it again")


def _check_durations(data: str, durations_us: NDArray[np.int64], seen: SeenRecordings) -> None:
    """Refuses recordings that cannot be those of the training, since the usual one is too long or too short."""
    usual = int(np.median(durations_us))
    if not seen.longest_us or seen.shortest_us * DURATION_SHARE <= usual <= seen.longest_us / DURATION_SHARE:
        return
    trained = f"{seconds(seen.shortest_us)} to {seconds(seen.longest_us)}"
    raise ConfigError(
        f"{data}: recordings last {seconds(usual)} (median), those of the training {trained}: give the recordings of "
        "the training, with the options that made samples of them, such as --labels or --window"
    )


@app.command()
@takes_recordings(READING)
def watch(
    files: Annotated[list[Path], typer.Argument(help="Event files, or folders of them, in order; - reads a pipe.")],
    model: Model = None,
    window: Annotated[str | None, typer.Option(help="Judge each window of this length, for example 500ms.")] = None,
    run: Annotated[
        int, typer.Option(help="Recordings between two false alarms, on average, if 2 % do not fit, independently.")
    ] = RUN,
    crop: CropWord = None,
    backend: Backend = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Follow the share of recordings that are unlike those of the training, and say when it has become too large.

    Windows in which nothing moves are passed over.

    Example: neuromoco watch recordings/ --model walk.onnx
    """
    from neuromoco.runtime.batch import Job, classify_files

    length = None if window is None else microseconds(window)
    job = Job(
        model_or_default(model, backend),
        device=device,
        backend=backend,
        any_length=True,
        window=length,
        options=read_options(recordings),
        crop=crop_in(crop),
        pass_quiet=True,
    )
    what = "recordings" if length is None else "windows"
    drift, failed, quiet_ones, scores = Drift(run), 0, 0, []
    for answer in classify_files(files_in(files), job):
        if isinstance(answer.result, NeuromocoError):
            failed = answer.result.exit_code
            complain(answer.result)
            continue
        if not isinstance(answer.result, Prediction):
            quiet_ones += 1  # nothing moves in this window
            continue
        fit = answer.result.fit
        if fit is None:
            raise ConfigError(
                f"{job.model}: does not say what fits: give its checkpoint a reference (neuromoco reference CHECKPOINT "
                "--data TRAINING) and export it again"
            )
        alarm = drift.add(fit.fits)
        scores.append(fit.score)
        if as_json:
            facts = {"recording": place_of(answer), "fit": fit.to_json(), "seen": drift.seen}
            print_json(facts | {"unlike": drift.unlike, "share": drift.share, "alarm": alarm}, indent=None)
        elif alarm:
            out.print(escape(f"{place_of(answer)}: {drift.alarm_line(what)}"))
    if not as_json:
        middle = f", median score {np.median(scores):.2f} (1 is the limit)" if scores else ""
        alarms = f"{len(drift.alarms)} alarms" if len(drift.alarms) != 1 else "1 alarm"
        share = f"{drift.unlike:,} ({drift.share:.1%}) unlike those of the training"
        passed = f"; {quiet_ones:,} quiet ones passed over" if quiet_ones else ""
        out.print(f"{drift.seen:,} {what}, {share}{middle}; {alarms}{passed}")
    if failed:
        raise typer.Exit(failed)
