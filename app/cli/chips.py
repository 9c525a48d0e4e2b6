"""The command that says which chips hold a network, and what its spikes cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from neuromoco.app.cli.arguments import crop_in
from neuromoco.app.cli.command_group import AsJson, Quiet, app, show
from neuromoco.app.cli.events import CropWord
from neuromoco.app.cli.export import (
    MODULE,
    Example,
    ModuleLayout,
    Renames,
    Steps,
    Weights,
    expect_no_module,
    module_and_example,
)
from neuromoco.app.cli.recordings import READING, takes_recordings
from neuromoco.config import RecordingsConfig
from neuromoco.errors import ConfigError
from neuromoco.support.console import printable
from neuromoco.support.extras import need


@app.command()
@takes_recordings(READING)
def chips(
    model: Annotated[
        Path, typer.Argument(help="A checkpoint, a run, an export, or file.py:name of a torch module, which is run.")
    ],
    data: Annotated[Path | None, typer.Option(help="Recordings that a checkpoint's operations are counted on.")] = None,
    crop: CropWord = None,
    weights: Weights = None,
    rename: Renames = None,
    example: Example = None,
    layout: ModuleLayout = "TN",
    steps: Steps = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Say chip by chip what of a network fits, what does not and what to shrink, and what its spikes cost.

    Rules are those that makers published, with their sources. Operations and energy of a recording stand beside those
    of a network of equal size without spikes. Nothing is measured on a chip.

    Example: neuromoco chips walk.safetensors --data recordings/
    """
    need("export")
    from neuromoco.export.chips.report import chips_report, module_report

    if MODULE.search(str(model)):
        if data or crop or recordings != RecordingsConfig():
            raise ConfigError(f"{model}: recordings are for checkpoints; give a module an --example")
        module, given = module_and_example(str(model), weights, rename, example)
        report = module_report(str(model), module, given, steps, layout)
    else:
        expect_no_module(model, weights or rename, example, layout, steps)
        report = chips_report(model, data, recordings, crop_in(crop))
    show(report, as_json, lambda: Text("\n".join(map(printable, _lines(report)))))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    for chip in report["chips"]:
        cores = f", {chip['cores']:,} of {chip['of_cores']:,} cores" if chip["cores"] is not None else ""
        verdict = "fits" if chip["fits"] else f"does not fit, {_counted(len(chip['problems']), 'reason')}"
        yield f"{chip['chip']}: {verdict}{cores}"
        for problem in chip["problems"]:
            where = f"{problem['layer']}: " if problem["layer"] else ""
            figures = f" {problem['value']:,}, allowed {problem['allowed']}" if problem["value"] is not None else ""
            yield f"  {where}{problem['what']}{figures}; {problem['advice']} [{problem['source']}]"
        for note in chip["notes"]:
            yield f"  note: {note}"
    yield ""
    found = report["operations"]
    if found is None:
        yield f"Operations and energy: {report['counted_on']}"
        return
    yield f"A recording (mean of {report['counted_on']}; T = {found['steps']}, {found['neurons']:,} neurons):"
    yield (
        f"  {found['synaptic']:,.0f} synaptic operations ({found['multiply_adds']:,.0f} of them of event counts), "
        f"{found['spikes']:,.0f} spikes"
    )
    yield f"  {found['macs']:,} multiplications and sums in a network of equal size without spikes, on one frame"
    for row in report["energy"]:
        dense = "" if row["non_spiking_nj"] is None else _beside(row["spiking_nj"], row["non_spiking_nj"])
        yield f"  {row['by']}: {row['spiking_nj'] / 1e3:,.2f} uJ{dense} [{row['source']}]"
    yield "  Arithmetic alone: memory, routing, input and static power are not included."


def _beside(spiking: float, dense: float) -> str:
    times = f"{dense / spiking:.1f} times as much" if dense >= spiking else f"{spiking / dense:.1f} times less"
    return f"; without spikes {dense / 1e3:,.2f} uJ, {times}"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" + ("s" if number != 1 else "")
