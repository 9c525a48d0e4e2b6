"""A corpus to pre-train on: thousands of recordings of pictures, cameras and motions that are drawn at random.

Recording `index` of a corpus follows from the pictures, the seed and the index alone. Each scene is recorded by two
cameras that have nothing in common, so that what is alike in both recordings is the scene. A folder of them has
`corpus.json`, which says what it is made of, one EVT2 file a recording, and a table of the scenes; an interrupted
corpus goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.events.prophesee.evt_writer import write_evt2
from neuromoco.simulate.camera import SensorConfig, record_scene
from neuromoco.simulate.pictures import Stencils
from neuromoco.simulate.scenes import (
    Floats,
    Scene,
    Sprite,
    at_rest,
    crossing,
    draw_camera,
    hovering,
    log_uniform,
    render,
    sample_times,
)
from neuromoco.support.console import track
from neuromoco.support.files import read_json, syncing_later, write_json, write_text
from neuromoco.support.pool import Lost, map_in_processes

VERSION = 1  # raise it whenever the same seed gives other recordings
FACTS = "corpus.json"
LABELS, SCENE = "scenes.csv", "scene"  # the table that says which recordings show the same scene, and its column
CAMERAS = 2  # before which a scene is recorded
TRIES = 4  # of a camera, until it sees enough
GAMMA = (0.6, 1.6)  # of the light: contrast differs from camera to camera
# Width and height of sensors, and how often: small ones more often, since large ones take longer.
SENSORS = ((34, 34), (40, 40), (48, 48), (64, 64), (80, 60), (96, 96), (128, 128), (240, 180), (304, 240), (346, 260))
SENSOR_SHARES = (0.48, 0.08, 0.08, 0.15, 0.05, 0.07, 0.075, 0.008, 0.003, 0.004)
DURATION_S = (0.02, 5.0)
THRESHOLD = (0.1, 0.5)
FEWEST_EVENTS, MOST_EVENTS = 400, 40_000
NOISE_SHARE = (0.002, 0.25)  # background events, as a share of those that light causes
LEAST_CONTRAST = 0.7  # of a picture to what is behind it, as a logarithm
PASSING = 0.4  # of the scenes have objects that pass; of these, half have a camera at rest


class Job(NamedTuple):
    """Recordings that a process makes."""

    folder: Path
    seed: int
    smallest: int  # side of a sensor, pixels
    indices: tuple[int, ...]


def make_corpus(
    folder: Path, stencils: Sequence[Stencils], recordings: int, seed: int = 0, smallest: int = 0, jobs: int = 1
) -> dict[str, Any]:
    """Makes the recordings of a corpus that its folder lacks; returns the content of `corpus.json`.

    Args:
        folder: to write to.
        stencils: the pictures.
        recordings: how many.
        seed: of all that is drawn.
        smallest: fewest pixels of a sensor's side; sensors have 34 to 260.
        jobs: processes.

    Raises:
        ConfigError: the folder holds something else, or a corpus of other pictures or another seed.
        DiskError: the disk is full.
    """
    facts = {
        "version": VERSION,
        "seed": seed,
        "smallest": smallest,
        "pictures": {
            name: {"pictures": len(one), "licence": one.licence, "sha256": one.sha256}
            for name, one in zip(_distinct([one.name for one in stencils]), stencils, strict=True)
        },
    }
    file = folder / FACTS
    if not file.is_file() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: already exists, and is no corpus; give another --out")
    if file.is_file() and (found := read_json(file)) != facts | {"recordings": found.get("recordings")}:
        raise ConfigError(f"{folder}: is a corpus of another seed, version or other pictures; give another --out")
    if file.is_file() and read_json(file).get("recordings", 0) > recordings:
        raise ConfigError(
            f"{folder}: holds more than {recordings} recordings; give --recordings of as many, or another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, facts | {"recordings": recordings})
    write_text(folder / "recordings.yaml", f"labels: {LABELS}\ngroup: {SCENE}\n")
    lines = (f"{_file(folder, index).name},all,{index // CAMERAS}\n" for index in range(recordings))
    write_text(folder / LABELS, f"file,class,{SCENE}\n{''.join(lines)}")
    missing = [index for index in range(recordings) if not _file(folder, index).is_file()]
    parts = [Job(folder, seed, smallest, tuple(missing[i : i + 16])) for i in range(0, len(missing), 16)]
    if jobs > 1 and len(parts) > 1:
        done = map_in_processes(_record, parts, jobs, _use, tuple(stencils))
    else:
        _use(tuple(stencils))
        done = map(_record, parts)
    for result in track(done, "recording the corpus"):
        if isinstance(result, Lost):
            raise ConfigError(f"{folder}: {result.reason}; the same command goes on")
    return facts | {"recordings": recordings}


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that came before."""
    return [
        name if name not in names[:place] else f"{name}-{names[:place].count(name) + 1}"
        for place, name in enumerate(names)
    ]


_stencils: tuple[Stencils, ...] = ()  # of this process


def _use(stencils: tuple[Stencils, ...]) -> None:
    global _stencils
    _stencils = stencils


def _record(job: Job) -> None:
    with syncing_later():
        for index in job.indices:
            write_evt2(_file(job.folder, index), draw_recording(_stencils, job.seed, index, job.smallest))


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.raw"


def draw_recording(stencils: Sequence[Stencils], seed: int, index: int, smallest: int = 0) -> Recording:
    """Recording `index` of the corpus with this seed, of a sensor with at least so many pixels a side."""
    scene, camera = divmod(index, CAMERAS)
    for attempt in count():
        again, camera_again = divmod(attempt, TRIES)  # first another camera, then another scene
        recording = _draw(stencils, [VERSION, seed, scene, again], [camera, camera_again], smallest)
        if len(recording) >= FEWEST_EVENTS / 2:
            break
    return recording


def _draw(stencils: Sequence[Stencils], seed: list[int], camera: list[int], smallest: int) -> Recording:
    """A scene, which follows from the seed, before one of its cameras."""
    draw = np.random.default_rng([*seed, *camera])
    shares = np.array(SENSOR_SHARES) * [min(sides) >= smallest for sides in SENSORS]
    width, height = SENSORS[draw.choice(len(SENSORS), p=shares / shares.sum())]
    scene = draw_scene(np.random.default_rng(seed), stencils, height, width)
    u = sample_times(scene, height, width)
    light = render(scene, u, height, width) ** draw.uniform(*GAMMA)
    duration_us = 1e6 * np.exp(draw.uniform(*np.log(DURATION_S)))
    times = np.rint(u * duration_us).astype(np.int64)
    sensor = _draw_sensor(draw, light, duration_us * 1e-6)
    return record_scene(light, times, sensor=sensor, seed=[*seed, *camera, 1])


def _draw_sensor(draw: Generator, light: Floats, seconds: float) -> SensorConfig:
    """A camera; its thresholds go beyond their range if a scene would cause far too many or too few events."""
    eps = log_uniform(draw, 0.005, 0.06)
    # How much the logarithm changes in all: one event for each threshold, at most.
    changes = float(np.abs(np.diff(np.log(light + eps), axis=0)).sum())
    events = changes / log_uniform(draw, *THRESHOLD)
    events = float(np.clip(events, FEWEST_EVENTS, MOST_EVENTS))
    threshold = float(np.clip(changes / events, 0.01, 10.0))
    ratio = float(np.exp(draw.normal(0, 0.08)))
    noise = log_uniform(draw, *NOISE_SHARE) * events / (light[0].size * seconds)
    return SensorConfig(
        threshold_on=min(threshold * ratio, 10.0),
        threshold_off=min(threshold / ratio, 10.0),
        mismatch=draw.uniform(0, 0.25),
        refractory_us=int(log_uniform(draw, 10, 3000)),
        noise_hz=min(noise, 1e4),
        noise_on_share=draw.uniform(0.3, 0.95),
        eps=eps,
        serial=int(draw.integers(1 << 40)),
    )


def draw_scene(draw: Generator, stencils: Sequence[Stencils], height: int, width: int) -> Scene:
    """A picture before a backdrop, seen by a camera in motion; or a backdrop before which one to three objects pass."""
    side = min(height, width)
    passing = draw.random() < PASSING
    still = passing and draw.random() < 0.5
    level = log_uniform(draw, 0.05, 1.0)
    backdrop = _backdrop(draw, level, 2 * height, 2 * width)
    if not passing or draw.random() < 0.3:
        _put(backdrop, _draw_picture(draw, stencils, side * draw.uniform(0.45, 1.1), level), draw)
    sprites = []
    for _ in range(int(draw.integers(1, 4)) if passing else 0):
        light, opacity = _draw_picture(draw, stencils, side * draw.uniform(0.2, 0.7), level)
        path = (crossing if draw.random() < 0.4 else hovering)(draw, side)
        sprites.append(Sprite(np.pad(light, 2, mode="edge"), np.pad(opacity, 2), path))
    return Scene(backdrop, at_rest if still else draw_camera(draw, side), tuple(sprites))


def _backdrop(draw: Generator, level: float, height: int, width: int) -> Floats:
    """Even light, or soft patches."""
    if draw.random() < 0.5:
        return np.full((height, width), level, np.float32)
    coarse = draw.random((int(draw.integers(3, 9)), int(draw.integers(3, 9)))).astype(np.float32)
    patches = _resized(coarse, height, width)
    strength = draw.uniform(0.1, 0.6)
    mixed: Floats = np.clip(level * (1 - strength + strength * patches), 0, 1).astype(np.float32)
    return mixed


def _put(backdrop: Floats, picture: tuple[Floats, Floats], draw: Generator) -> None:
    """Puts a picture near the middle of a backdrop."""
    light, opacity = picture
    rows, columns = light.shape
    top, left = (max(0, (have - size) // 2) for have, size in zip(backdrop.shape, light.shape, strict=True))
    top += int(draw.integers(-rows // 8, rows // 8 + 1))
    left += int(draw.integers(-columns // 8, columns // 8 + 1))
    top, left = max(0, top), max(0, left)
    part = backdrop[top : top + rows, left : left + columns]
    rows, columns = part.shape
    part += opacity[:rows, :columns] * (light[:rows, :columns] - part)


def _draw_picture(draw: Generator, stencils: Sequence[Stencils], side: float, level: float) -> tuple[Floats, Floats]:
    """Intensities and opacity [h, w] of a picture whose larger side has so many pixels, unlike the light behind it."""
    shares = np.array([one.share for one in stencils])
    source = stencils[draw.choice(len(stencils), p=shares / shares.sum())]
    layers = source.picture(int(draw.integers(len(source)))).astype(np.float32) / 255  # [2, h, w]
    factor = side / max(layers.shape[1:])
    stretch = np.exp(draw.normal(0, 0.1))
    rows = max(3, round(layers.shape[1] * factor * stretch))
    columns = max(3, round(layers.shape[2] * factor / stretch))
    grey, opacity = (_resized(layer, rows, columns) for layer in layers)
    dark, bright = sorted((log_uniform(draw, 0.02, 1.0), log_uniform(draw, 0.02, 1.0)))
    bright = max(bright, min(1.0, 3 * dark))
    if draw.random() < 0.35:
        grey = 1 - grey
    light: Floats = dark + (bright - dark) * grey ** draw.uniform(0.6, 1.6)
    contrast = np.log(float((light * opacity).sum()) / max(float(opacity.sum()), 1e-6) / level + 1e-6)
    if abs(contrast) < LEAST_CONTRAST:  # an even picture would be invisible
        light = np.clip(light * np.exp(np.copysign(LEAST_CONTRAST, -1 if level > 0.3 else 1)), 0, 1)
    if draw.random() < 0.5:
        light, opacity = light[:, ::-1], opacity[:, ::-1]
    return light, opacity * draw.uniform(0.8, 1.0)


def _resized(layer: NDArray[np.float32], rows: int, columns: int) -> Floats:
    """A layer in another size, without aliasing."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(layer))
    found: Floats = np.clip(np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR)), 0, 1)
    return found
