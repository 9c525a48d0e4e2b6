"""The command that measures a classifier."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group

from neuromoco.app.cli.arguments import crop_in
from neuromoco.app.cli.command_group import EVALUATE, Abstain, AsJson, Backend, Device, Quiet, app, complain, out, show
from neuromoco.app.cli.events import CropWord
from neuromoco.app.cli.recordings import READING, SAMPLES, takes_recordings
from neuromoco.app.cli.tables import confidence_lines, evaluation_table
from neuromoco.app.cli.timelines import scores_table
from neuromoco.checkpoint import unfinished_epoch
from neuromoco.confidence import abstention
from neuromoco.config import RecordingsConfig
from neuromoco.datasets import Listing, list_data
from neuromoco.errors import ConfigError
from neuromoco.evaluation.accuracy import evaluate as measure
from neuromoco.evaluation.calibration import measure_confidence
from neuromoco.evaluation.segments import score_timelines
from neuromoco.runtime.load import LoihiClassifier, OnnxClassifier, load_classifier
from neuromoco.support.console import escape
from neuromoco.support.files import write_text

if TYPE_CHECKING:
    from neuromoco.evaluation.spikes import SpikeFigures
    from neuromoco.runtime.load import AnyClassifier


@app.command()
@takes_recordings(READING | SAMPLES)
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(help="A run, a checkpoint, an ONNX file, a Loihi export; or a .csv of predict --labels-out."),
    ],
    data: Annotated[str, typer.Option(help="A folder of class folders, or a data set, whose test part is used.")],
    report: Annotated[
        Path | None, typer.Option(help="Write all figures, with the worst recordings, to this .html file.")
    ] = None,
    crop: CropWord = None,
    abstain: Abstain = None,
    backend: Backend = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Measure a classifier on labelled recordings, or a timeline of `predict` against labels. Exports need no torch.

    Example: neuromoco evaluate runs/tuned --data test/ --report report.html
    """
    if model.suffix.lower() == ".csv":
        words = {"report": report, "crop": crop, "abstain": abstain}
        words |= {"backend": backend, "device": device}
        if unused := [f"--{name}" for name, value in words.items() if value not in (None, "auto")]:
            raise ConfigError(f"{' and '.join(unused)} with {model}, which is a timeline; its scores are printed")
        scores = score_timelines(model, list_data(data, "test", recordings=recordings))
        show({"schema": EVALUATE, **scores.to_json()}, as_json, lambda: scores_table(scores))
        return
    if (epoch := unfinished_epoch(model)) is not None:
        advice = f"to complete it: neuromoco train --resume {shlex.quote(str(model))}"
        complain(f"{model}: is not complete; its weights after epoch {epoch} are measured ({advice})")
    classifier = load_classifier(model, device, backend=backend)
    network = classifier.network if isinstance(classifier, OnnxClassifier | LoihiClassifier) else classifier
    calibration = network.header.calibration
    if abstain is not None:
        abstention(calibration, abstain)  # raises before anything is read
    result = measure(network, list_data(data, "test", recordings=recordings).of_part(crop_in(crop)))
    confidence = measure_confidence(result, calibration, abstain)
    if report is not None:
        from neuromoco.evaluation.report import report_page

        spikes = _spikes(model, classifier, result.listing)
        name = str(model) if epoch is None else f"{model} (not complete: weights after epoch {epoch})"
        write_text(report, report_page(name, result, confidence, spikes))
    facts = {"schema": EVALUATE, **result.to_json(), **confidence.to_json()}
    facts |= {} if epoch is None else {"unfinished": {"epoch": epoch}}
    show(facts, as_json, lambda: Group(evaluation_table(result), confidence_lines(confidence)))
    if report is not None and not as_json:
        out.print(f"wrote {escape(str(report))}")


def _spikes(model: Path, classifier: AnyClassifier, listing: Listing | None) -> SpikeFigures | None:
    from neuromoco.evaluation.spikes import checkpoint_spikes, loihi_spikes

    assert listing is not None
    if isinstance(classifier, LoihiClassifier):
        return loihi_spikes(model)
    return None if isinstance(classifier, OnnxClassifier) else checkpoint_spikes(classifier, listing)
