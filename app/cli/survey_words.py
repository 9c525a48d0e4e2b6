"""What a survey found, as lines and tables for the terminal and as data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Column, Table

from neuromoco.datasets.set_survey import Sample, SetSurvey
from neuromoco.support.console import escape

MOST_LISTED = 10  # damaged files, and copies, in the terminal


def survey_facts(found: SetSurvey) -> dict[str, Any]:
    """Everything that was found, ready for JSON."""
    left, top, width, height = found.occupied()
    return {
        "data": found.data,
        "recordings": found.recordings,
        "read": len(found.samples),
        "classes": {name: _figures(samples) for name, samples in found.by_class().items() if name},
        "all": _figures(found.samples),
        "sensors": [{"width": w, "height": h, "recordings": count} for (w, h), count in found.sensors.items()],
        "formats": sorted({sample.format for sample in found.samples}),
        "occupied": {"x": left, "y": top, "width": width, "height": height},
        "events_outside_the_sensor": sum(sample.outside for sample in found.samples),
        "damaged": list(found.problems),
        "copies": [copies._asdict() for copies in found.copies],
        "compared_with": found.compared,
    }


def _figures(samples: Sequence[Sample]) -> dict[str, Any]:
    if not samples:
        return {"recordings": 0}
    seconds = np.array([sample.duration_us for sample in samples]) / 1e6
    events = np.array([sample.events for sample in samples])
    rates = events / np.maximum(seconds, 1e-6)
    spread = {"events": events, "seconds": seconds, "events_per_s": rates}
    return {
        "recordings": len(samples),
        **{name: _spread(values) for name, values in spread.items()},
        "on_share": round(float(np.mean([sample.on_share for sample in samples])), 4),
    }


def _spread(values: Any) -> dict[str, float]:
    return {"least": float(values.min()), "median": float(np.median(values)), "most": float(values.max())}


def finding_lines(found: SetSurvey, most: int | None = MOST_LISTED) -> list[str]:
    """What was found in all, a line each: counts, sensors, durations, rates, damage, copies."""
    every = _figures(found.samples)
    left, top, width, height = found.occupied()
    (sensor, _), *others = found.sensors.items()
    classes = f" of {len(found.class_names)} classes" if found.class_names else ", no classes"
    read = "" if len(found.samples) == found.recordings else f"; {len(found.samples):,} were read"
    lines = [
        f"{found.data}: {found.recordings:,} recordings{classes}{read}",
        f"formats: {', '.join(sorted({sample.format for sample in found.samples}))}",
        f"sensor: {_sides(sensor)}" + (f"; {_others(others)}" if others else ""),
        f"occupied: {width} x {height} pixels from column {left}, row {top} ({_percent(width * height, sensor)})",
        f"events: {_range(every['events'])}, {every['on_share']:.0%} ON",
        f"duration: {_range(every['seconds'], ' s')}",
        f"rate: {_range(every['events_per_s'], ' events/s')}",
    ]
    if outside := sum(sample.outside for sample in found.samples):
        lines.append(f"events outside the sensor: {outside:,}, dropped")
    lines += _listed("damaged", found.problems, most)
    compared = f", among them and with {found.compared:,} others" if found.compared else ""
    copies = [
        f"{one.first} and {one.second} share {one.shared:.0%} of the smaller one's events"
        + (", in different classes" if one.classes_differ else "")
        for one in found.copies
    ]
    return lines + _listed(f"copies{compared}", copies, most)


def _listed(what: str, entries: Sequence[str], most: int | None) -> list[str]:
    if not entries:
        return [f"{what}: none"]
    more = [f"  and {len(entries) - most:,} more"] if most is not None and len(entries) > most else []
    return [f"{what}: {len(entries):,}", *(f"  {entry}" for entry in entries[:most]), *more]


def _others(sensors: Sequence[tuple[tuple[int, int], int]]) -> str:
    return ", ".join(f"{count:,} recordings of {_sides(sensor)}" for sensor, count in sensors)


def _sides(sensor: tuple[int, int]) -> str:
    return f"{sensor[0]} x {sensor[1]}"


def _percent(pixels: int, sensor: tuple[int, int]) -> str:
    return f"{pixels / (sensor[0] * sensor[1]):.0%} of the sensor"


def _range(spread: dict[str, float], unit: str = "") -> str:
    least, median, most = (_number(spread[name]) for name in ("least", "median", "most"))
    return f"{least} to {most}{unit}, median {median}{unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


CLASS_COLUMNS = ("class", "recordings", "events", "seconds", "events/s", "ON")


def class_rows(found: SetSurvey) -> list[tuple[str, ...]]:
    """A row for each class, medians of its recordings."""
    rows: list[tuple[str, ...]] = []
    for name, samples in found.by_class().items():
        figures = _figures(samples)
        if not samples:
            rows.append((name, "0", "-", "-", "-", "-"))
            continue
        medians = (_number(figures[what]["median"]) for what in ("events", "seconds", "events_per_s"))
        rows.append((name or "all", f"{len(samples):,}", *medians, f"{figures['on_share']:.0%}"))
    return rows


def class_table(found: SetSurvey) -> Table:
    """The classes, with medians of their recordings."""
    first, *rest = CLASS_COLUMNS
    table = Table(first, *(Column(name, justify="right") for name in rest), title="medians", title_justify="left")
    for row in class_rows(found):
        table.add_row(*map(escape, row))
    return table
