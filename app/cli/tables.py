"""Results as lines and tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from neuromoco.fit.verdict import UNLIKE, plain
from neuromoco.runtime.prediction import Prediction
from neuromoco.support.console import escape
from neuromoco.sweep.summary import SPREAD, accuracy_cell, column_title, difference_cell, row_title

if TYPE_CHECKING:
    from neuromoco.evaluation.accuracy import Evaluation
    from neuromoco.evaluation.calibration import Confidence
    from neuromoco.evaluation.probe import ProbeResult
    from neuromoco.runtime.batch import FileResult


def facts_table(title: str, facts: Mapping[str, Any]) -> Table:
    """Names and values, nested ones in one line."""
    table = Table(title=escape(title), show_header=False, title_justify="left", box=None, padding=(0, 2))
    for name, value in facts.items():
        table.add_row(escape(name.replace("_", " ")), _in_words(value))
    return table


def evaluation_table(result: Evaluation) -> Table:
    """Accuracy with its interval, and the recall of each class."""
    low, high = result.interval
    title = f"accuracy {result.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}) on {result.recordings} recordings"
    if result.is_uneven:
        title += f", {result.balanced_accuracy:.1%} if classes count equally"
    if result.fits:
        title += f", {result.unlike} of them {UNLIKE}"
    table = Table("class", "recordings", "recall", "most often taken for", title=title, title_justify="left")
    recall = result.recall
    for i, name in enumerate(result.class_names):
        wrong = result.confusion[i].copy()
        total, wrong[i] = int(wrong.sum()), 0
        if total:
            other = f"{escape(result.class_names[wrong.argmax()])} ({wrong.max()})" if wrong.any() else "-"
            table.add_row(escape(name), str(total), f"{recall[name]:.1%}", other)
    return table


def confidence_lines(confidence: Confidence) -> str:
    """How well probabilities are calibrated, and what leaving out unsure answers does."""
    calibration, abstained = confidence.calibration, confidence.abstained
    lines = ["not calibrated: the model has no temperature" if calibration is None else calibration.in_words()]
    lines.append(f"expected calibration error {confidence.error.in_words()}")
    if confidence.error != confidence.before:
        lines.append(f"  without the temperature  {confidence.before.in_words()}")
    if abstained:
        wrong = "" if abstained.error is None else f", {abstained.error:.1%} of the answers wrong ({abstained.wrong:,})"
        lines += [
            f"answers for {abstained.coverage:.1%} of the recordings, the others unsure{wrong}; "
            f"asked for {abstained.limits.level:.1%} wrong at most",
            f"possible classes: {abstained.possible:.2f} on average, with the true one for {abstained.holds:.1%}",
        ]
    return "\n".join(lines)


def probe_lines(result: ProbeResult) -> str:
    """What a probe learned from, and the unchanged checksum of the encoder."""
    what = {"knn": "nearest neighbours", "linear": "logistic regression"}[result.kind]
    features = "the features of all steps together" if result.per_step else "the mean of the features over time"
    lines = [f"{what} on {features}, trained on {result.trained_on:,} recordings"]
    if result.per_step:
        lines.append("accuracy of each step alone: " + ", ".join(f"{accuracy:.1%}" for accuracy in result.steps))
    lines.append(f"the encoder is unchanged, sha256 {result.encoder_sha256[:16]} before and after")
    return "\n".join(lines)


def prediction_line(prediction: Prediction) -> str:
    """The label with its probability, and the next two; of a recording that does not fit, first the verdict."""
    (label, share), *others = prediction.probabilities.items()
    if prediction.fit is not None and not prediction.fit.fits:
        score = f"score {plain(prediction.fit.score, 3)}, 1 is the limit"
        reasons = escape("; ".join([score, *prediction.fit.reasons]))
        return f"[bold]{UNLIKE}[/]  [dim]({escape(label)} {share:.1%})[/]  {reasons}"
    if prediction.unsure:
        possible = ", ".join(map(escape, prediction.possible_classes or ()))
        return f"[bold]unsure[/]  ({escape(label)} {share:.1%}; possible: {possible})"
    then = ", ".join(f"{escape(name)} {value:.1%}" for name, value in others[:2])
    return f"[bold]{escape(label)}[/] {share:.1%}" + (f"  (then {then})" if then else "")


def place_of(answer: FileResult) -> str:
    """A file, or a window of it."""
    if answer.window is None:
        return str(answer.file)
    begin, end = answer.window
    return f"{answer.file} {begin / 1e3:,.0f} to {end / 1e3:,.0f} ms"


def answer_line(answer: FileResult) -> str:
    """A file, or a window of it, and its class, as one line."""
    place = escape(place_of(answer))
    return f"{place}: {prediction_line(answer.result) if isinstance(answer.result, Prediction) else 'no events'}"


def encoder_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """All registered encoders."""
    table = Table(Column("encoder", no_wrap=True), "parameters", "features", "options", "what it is")
    for row in rows:
        options = escape(", ".join(f"{name}={value}" for name, value in row["options"].items()))
        table.add_row(row["name"], f"{row['parameters']:,}", str(row["features"]), options, row["what"])
    return table


def dry_run_lines(plan: Mapping[str, Any]) -> str:
    """Data, steps, parameters and memory of a run."""
    sets = plan["data"] if isinstance(plan["data"], str) else ", ".join(plan["data"])
    classes = f", {plan['classes']} classes" if plan["classes"] else ""
    lines = [f"{escape(sets)}: {plan['recordings']:,} recordings to train on{classes}"]
    for name, stage in plan["stages"].items():
        parameters, memory = stage["parameters"], stage["memory_bytes"]
        epochs = f"{stage['epochs']} epochs of {stage['steps_an_epoch']:,} steps, {stage['steps']:,} in total"
        lines += [
            f"[bold]{name}[/] on {stage['recordings']:,} recordings, {stage['batch_size']} per step: {epochs}",
            f"  {parameters['encoder']:,} parameters in the encoder, {parameters['learned']:,} to learn",
            f"  {memory['total'] / 1e9:.2f} GB with {stage['recordings_a_pass']} recordings per pass: "
            f"{memory['activations'] / 1e9:.2f} GB activations "
            f"({stage['activation_bytes_a_recording'] / 1e6:,.0f} MB per recording), "
            f"{memory['weights_and_optimizer'] / 1e9:.2f} GB weights, gradients and optimizer; "
            f"{memory['evaluation'] / 1e9:.2f} GB while evaluating",
        ]
        if "queue_size" in stage:
            lines.append(f"  a queue of {stage['queue_size']:,} keys, {stage['queue_share']:.0%} of the recordings")
        if "pool" in stage:
            pool = f"{stage['pool']['recordings']:,} recordings without labels"
            lines.append(f"  a pool of {pool}, {stage['pool']['recordings_a_pass']} more per pass, and their teacher")
    if found := plan.get("comparison"):
        where = f" in {found['folds']} folds of the labels and on all of them" if found["folds"] else ""
        text = "[bold]comparison[/] of finetune, supervised and a linear probe: "
        lines.append(f"{text}{found['networks']} networks to train with labels{where}")
    return "\n".join([*lines, plan["how"]])


def sweep_tables(results: Mapping[str, Any]) -> list[Table]:
    """Accuracies of a sweep, and differences from training from scratch."""
    columns = results["labels"]
    tables = []
    for name, title, words in (
        ("rows", f"accuracy in %, last epoch: {SPREAD}", accuracy_cell),
        ("differences", "points above from scratch, paired by seed, and seeds above 0", difference_cell),
    ):
        table = Table(Column("", overflow="fold"), *map(column_title, columns), title=title, title_justify="left")
        for row in results[name]:
            table.add_row(escape(row_title(row)), *(words(row["labels"].get(labels)) for labels in columns))
        if results[name]:
            tables.append(table)
    return tables


def verified_table(folder: str, result: Mapping[str, Any]) -> Table:
    """Lava compared with the integer twin, layer by layer."""
    logits = "logits equal" if result["logits_differ"] == 0 else f"{result['logits_differ']} logits differ"
    title = (
        f"{escape(folder)} in Lava's simulator, {result['recordings']} recordings, {result['seconds']:.0f} s: {logits}"
    )
    table = Table("layer", "spikes", "differ", title=title, title_justify="left")
    for layer in result["layers"]:
        table.add_row(escape(layer["name"]), f"{layer['spikes']:,}", f"{layer['differ']:,}")
    return table


def model_lines(row: Mapping[str, Any]) -> str:
    """A model that ships with the package."""
    frames = "{steps} steps of {height} x {width}".format(**row["frames"])
    trained = f"trained on {row['trained_on']['count']:,} recordings"
    use = f"for neuromoco train --init {row['name']} --data FOLDER"
    use = f"classes {escape(', '.join(row['class_names']))}" if row["class_names"] else use
    what = f"{row['kind']}, {row['encoder']}, {frames}, {trained}, {use}"
    return f"[bold]{row['name']}[/]: {what}\n  {escape(row['file'])}"


def bench_table(result: Mapping[str, Any]) -> Table:
    """Milliseconds per recording, by stage."""
    runs = f"{result['files']} files x {result['runs']} runs"
    title = f"{escape(result['model'])}, {runs}, {result['per_second']:.0f} recordings/s"
    table = Table("stage", "median", "95th percentile", title=title, title_justify="left")
    for stage, figures in result["milliseconds"].items():
        table.add_row(stage, f"{figures['median']:.2f} ms", f"{figures['p95']:.2f} ms")
    return table


def demo_table(result: Mapping[str, Any]) -> Table:
    """Results of the demo."""
    labels = result["labels_per_class"]
    title = (
        f"{result['encoder']}, {labels} {'label' if labels == 1 else 'labels'} per class, {result['test_recordings']} "
        f"held-out simulated recordings, seed {result['seed']}, last epoch, {result['seconds']:.0f} s in total"
    )
    table = Table("trained", f"mean of {result['draws']} draws", "each draw", title=title, title_justify="left")
    for name in ("from scratch", "pre-trained"):
        found = result["results"][name]
        each = "  ".join(f"{accuracy:.1%}" for accuracy in found["accuracies"])
        table.add_row(name, f"{found['accuracy']:.1%} ± {100 * found['standard_error']:.1f}", each)
    answer, gain = result["prediction"], result["difference"]
    table.caption = (
        f"pre-training: {100 * gain['accuracy']:+.1f} ± {100 * gain['standard_error']:.1f} points (standard error over "
        "the draws of labels).\nIt pays with very few labels: with 5 per class it gained nothing where it was tried.\n"
        f"{escape(answer['file'])} shows a {answer['truth']}, classified as {answer['label']} "
        f"({answer['probabilities'][answer['label']]:.0%})\npictures and weights: {escape(result['folder'])}"
    )
    table.caption_justify = "left"
    return table


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(name))} {_in_words(inner)}" for name, inner in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(inner) for inner in value) or "-"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else escape(str(value))
