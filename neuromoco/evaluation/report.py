"""An evaluation as a page in one HTML file: accuracy, confusions, reliability, time steps, worst recordings, spikes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuromoco.confidence import softmax, temperature_of
from neuromoco.datasets import Listing
from neuromoco.datasets.prepare import file_jobs, recordings_of
from neuromoco.datasets.set_survey import event_picture
from neuromoco.evaluation.accuracy import Evaluation, wilson
from neuromoco.evaluation.calibration import BINS, Abstained, Confidence, bins_of
from neuromoco.evaluation.spikes import SpikeFigures
from neuromoco.fit.verdict import UNLIKE
from neuromoco.support.figures import frame_colours
from neuromoco.support.html_page import Bar, bars, heat_table, page, picture, pictures, section, table

WORST = 12  # recordings that are shown
WORST_NOTE = "Those with the least probability for their class: the answer, and its probability. Orange ON, blue OFF."
INTERVALS = "Lines and brackets: 95 % intervals."


def report_page(
    model: str,
    result: Evaluation,
    confidence: Confidence,
    spikes: SpikeFigures | None = None,
) -> str:
    """The page, as HTML.

    Args:
        model: what was measured.
        result: of `evaluate`, with logits.
        confidence: of `measure_confidence`.
        spikes: figures of spikes and energy.
    """
    assert result.logits is not None
    assert result.listing is not None
    listing = result.listing
    low, high = result.interval
    names = result.class_names
    evidence = np.cumsum(result.logits, axis=1) / np.arange(1, result.logits.shape[1] + 1)[:, None]  # [S, T, classes]
    shares = softmax(evidence[:, -1], temperature_of(confidence.calibration))
    predicted = shares.argmax(1)
    right = f"{int(result.confusion.trace()):,} of {result.recordings:,} are right"
    sections = [
        section(
            "Accuracy", f'<p class="big">{result.accuracy:.1%}</p>', f"{right}; 95 % interval {low:.1%} to {high:.1%}."
        ),
        section("Recall by class", bars(_recalls(result.labels, predicted, names)), INTERVALS),
    ]
    if listing.groups:
        groups = _by_group(listing.groups, result.labels == predicted)
        sections.append(section("Accuracy by group", bars(groups), INTERVALS))
    if result.fits:
        sections.append(section("Fit", *_fit_rows(result, shares.max(1), predicted)))
    by_step = evidence.argmax(2) == result.labels[:, None]  # [S, T]
    steps = [_share_row(f"after step {step}", right) for step, right in enumerate(by_step.T, start=1)]
    worst = _worst(listing, result.labels, shares, names)
    sections += [
        section("Confusions", heat_table(names, result.confusion), "Rows are true classes, columns are answers."),
        section("Reliability", *_reliability(shares.max(1), predicted == result.labels, confidence)),
        *([section("Unsure answers", *_abstained(confidence.abstained))] if confidence.abstained else []),
        section("Accuracy over time steps", bars(steps), f"By the mean of the logits up to each step. {INTERVALS}"),
        section("The worst recordings", pictures(worst), WORST_NOTE),
        section("Spikes and energy", *_spike_rows(spikes)),
    ]
    return page(f"Evaluation of {model}", f"{result.recordings:,} recordings of {listing.root}", sections)


def _share_row(name: str, right: NDArray[np.bool_], mark: float | None = None) -> Bar:
    low, high = wilson(int(right.sum()), right.size)
    text = f"{right.mean():.0%} of {right.size:,} ({100 * low:.0f} to {high:.0%})"
    return Bar(name, float(right.mean()), text, (low, high), mark)


def _recalls(labels: NDArray[np.int64], predicted: NDArray[np.int64], names: Sequence[str]) -> list[Bar]:
    rows = ((name, (predicted == label)[labels == label]) for label, name in enumerate(names))
    return [_share_row(name, right) for name, right in rows if right.size]


def _by_group(groups: Sequence[str], right: NDArray[np.bool_]) -> list[Bar]:
    of = np.array(groups)
    return [_share_row(str(name), right[of == name]) for name in np.unique(of)]


def _reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_], measured: Confidence) -> tuple[str, str]:
    """How often answers of a confidence are right, and the expected calibration error."""
    bins, rows = bins_of(confidence), []
    for number in np.unique(bins).tolist():
        inside = bins == number
        mean = float(confidence[inside].mean())
        rows.append(_share_row(f"{number / BINS:.0%} to {(number + 1) / BINS:.0%}", right[inside], mark=mean))
    note = "Rows: how sure the model is of its answers; orange marks: its mean probability. Bars: the share of these "
    note += f"answers that is right. {INTERVALS} "
    model = "not calibrated" if measured.calibration is None else measured.calibration.in_words()
    note += f"The model: {model}. Expected calibration error {measured.error.in_words()}"
    note += f"; without the temperature {measured.before.in_words()}." if measured.error != measured.before else "."
    return bars(rows), note


def _abstained(found: Abstained) -> tuple[str, str]:
    rows = [
        ("errors asked for, among the answers given", f"{found.limits.level:.1%} at most"),
        ("recordings with an answer", f"{found.coverage:.1%} ({found.answered:,} of {found.recordings:,})"),
        ("errors among them", _errors(found)),
        ("possible classes of a recording", f"{found.possible:.2f} on average"),
        ("true class among the possible ones", f"{found.holds:.1%}"),
    ]
    note = f"Answers are unsure up to a probability of {found.limits.threshold:.1%}."
    return table((), rows), note


def _errors(found: Abstained) -> str:
    if found.error is None or found.interval is None:
        return "-"
    low, high = found.interval
    return f"{found.error:.1%} ({found.wrong:,}; 95 % interval {low:.1%} to {high:.1%})"


def _fit_rows(result: Evaluation, confidence: NDArray[np.float64], predicted: NDArray[np.int64]) -> tuple[str, str]:
    """Accuracy of the recordings that fit, and of the others, with their commonest reasons."""
    fits, right = np.array([fit.fits for fit in result.fits]), predicted == result.labels
    kinds = (("fits", fits), (UNLIKE, ~fits))
    rows = [
        _share_row(f"{name}, mean confidence {confidence[of].mean():.0%}", right[of]) for name, of in kinds if of.any()
    ]
    reasons = Counter(reason.split("; ")[0] for fit in result.fits for reason in fit.reasons[:1])
    note = (
        "Bars are accuracies. A recording like those of the training is called unlike them once in 50 times or less, "
        "with a certainty of 90 %. "
    )
    return bars(rows), note + "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))


def _worst(listing: Listing, labels: NDArray[np.int64], shares: NDArray[np.float64], names: Sequence[str]) -> list[str]:
    true = shares[np.arange(len(labels)), labels]
    figures = []
    for row in np.argsort(true)[:WORST].tolist():
        (recording,) = recordings_of(*file_jobs(listing, [row]))
        answer = int(shares[row].argmax())
        text = f"{listing.names[row]}: {names[answer]} ({shares[row, answer]:.0%})"
        text += f" instead of {names[labels[row]]} ({true[row]:.0%})" if answer != labels[row] else ", right"
        figures.append(picture(frame_colours(event_picture(recording)[None])[0], text))
    return figures


def _spike_rows(spikes: SpikeFigures | None) -> tuple[str, str]:
    if spikes is None or not spikes.rows:
        return "", "Not known for this file: give the checkpoint for rates of spikes, or a Loihi export for energy."
    return table(spikes.head, spikes.rows), spikes.note
