"""Where in an HDF5 file its events are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.columns import FORMS, ROLES, column_order, is_order, roles_of, shown, title_of
from neuromoco.events.hdf5.chunks import Rows
from neuromoco.events.options import ReadOptions
from neuromoco.events.recording import LARGEST_SIDE, check_lengths
from neuromoco.events.stream import Columns
from neuromoco.events.tidy import Order

# Limits on the groups of a file and the members of a group: files of images have many.
MOST_GROUPS, MOST_MEMBERS, MOST_NAMES = 100, 200, 20_000
SHOWN, MOST_LISTED = 6, 20
Sides = tuple[int | None, int | None]


@dataclass(frozen=True)
class Source:
    """The events in a file.

    Attributes:
        place: the group or the data set that holds them.
        paths: of the data sets of t, x, y, p; all equal for records and for [E, 4].
        parts: of each data set: a field, a column, or None for all of it.
        count: number of events.
        offset: added to the stored times.
        unit: of the times, if their name says it.
        order: how the order of the columns is known.
    """

    place: str
    paths: tuple[str, ...]
    parts: tuple[str | int | None, ...]
    count: int
    offset: int = 0
    unit: str | None = None
    order: Order = "named"

    def datasets(self, file: Any) -> list[Any]:
        """The data sets, each once."""
        return [file[path] for path in dict.fromkeys(self.paths)]

    def rows(self, file: Any) -> dict[str, Rows]:
        """The data sets, ready to be read, by path."""
        return {path: Rows(file[path]) for path in dict.fromkeys(self.paths)}

    def read(self, rows: dict[str, Rows], first: int, last: int) -> Columns:
        """The events from first to last, as they are stored."""
        tables = {path: own.read(first, last) for path, own in rows.items()}
        t, x, y, p = (
            tables[path] if part is None else tables[path][part] if isinstance(part, str) else tables[path][:, part]
            for path, part in zip(self.paths, self.parts, strict=True)
        )
        return Columns(self._shifted(t), x, y, p)

    def _shifted(self, t: NDArray[Any]) -> NDArray[Any]:
        if not self.offset or t.dtype.kind not in "iu":
            return t
        largest = (1 << 63) - 1 - abs(self.offset)
        if abs(self.offset) >= 1 << 62 or (t.size and (int(t.max()) > largest or int(t.min()) < -largest)):
            raise EventFileError(f"times and their t_offset of {self.offset} do not fit 63 bits")
        return t.astype(np.int64) + self.offset


def find_source(file: Any, options: ReadOptions) -> Source:
    """The one place in an open `h5py.File` that holds events; the user may name or order its columns.

    Of several, the user may select one by its place or by a group around it.
    """
    groups = [(group, [member for member in _members(group) if hasattr(member, "shape")]) for group in _groups(file)]
    datasets = [member for _, members in groups for member in members]
    select = options.select
    for columns in options.ways:
        if known := _with_names(groups, columns):
            break
    if not known:
        known = [source for dataset in datasets if (source := _of_table(dataset, columns))]
    if not known:
        holds = [f"{dataset.name.strip('/')} {_shape(dataset)}" for dataset in datasets[:SHOWN]]
        more = ", ..." if len(datasets) > SHOWN else ""
        raise EventFileError(
            "no layout of events that is known (data sets t, x, y, p in one group, or records with these fields); "
            f"the file holds {shown(holds or ['no data sets'])}{more}; {FORMS}"
        )
    chosen = known if select is None else [source for source in known if _is_within(source.place, select)]
    if len(chosen) != 1:
        given = "" if select is None else f", {'several' if chosen else 'none'} of them in {shown([select])}"
        places = shown(source.place for source in known[:MOST_LISTED])
        what = f"{len(known)} cameras or recordings{given}"
        raise EventFileError(f"the file holds the events of {what}: give --select with one of {places}")
    return chosen[0]


def _with_names(groups: Sequence[tuple[Any, Sequence[Any]]], columns: str | None) -> list[Source]:
    """The places where columns have names, among groups and the data sets in each."""
    sources = [
        source
        for group, members in groups
        for source in (_of_group(group, columns), *(_of_records(member, columns) for member in members))
    ]
    return [source for source in sources if source]


def _is_within(place: str, group: str) -> bool:
    return f"{place.strip('/')}/".startswith(f"{group.strip('/')}/")


def sensor_of(file: Any, source: Source) -> Sides:
    """Width and height, if the file names them."""
    around = file[source.place] if source.paths[0] != source.paths[1] else file[source.place].parent
    for place in (file[source.paths[0]], file[source.place], around, file):
        sides = _sides(place.attrs)
        if all(sides):
            return sides
    width, height = (_own(around, name) for name in ("width", "height"))
    if all(getattr(scalar, "shape", None) == () for scalar in (width, height)):
        return _side(width[()]), _side(height[()])
    calibration = _own(around, "calib")  # M3ED
    resolution: Any = _own(calibration, "resolution") if hasattr(calibration, "keys") else None
    if getattr(resolution, "shape", None) == (2,):
        return _side(resolution[0]), _side(resolution[1])
    return None, None


def _sides(attributes: Any) -> Sides:
    geometry = attributes.get("geometry")
    text = geometry.decode("ascii", "replace") if isinstance(geometry, bytes) else str(geometry)
    match = re.fullmatch(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*", text)
    if match:
        return _side(int(match[1])), _side(int(match[2]))
    if "width" in attributes and "height" in attributes:
        return _side(attributes["width"]), _side(attributes["height"])
    resolution = np.ravel(attributes.get("sensor_resolution", ()))
    if resolution.size in (2, 3):
        return _side(resolution[1]), _side(resolution[0])
    return None, None


def _side(value: Any) -> int | None:
    value = np.ravel(value)
    if value.size != 1 or value.dtype.kind not in "iuf" or not 1 <= value[0] <= LARGEST_SIDE:
        return None
    return int(value[0])


def _groups(file: Any) -> Iterator[Any]:
    """The groups of a file, those near the root first, each once."""
    waiting: list[Any] = [file]
    visited: set[Any] = set()
    while waiting and len(visited) < MOST_GROUPS:
        group = waiting.pop(0)
        if group.id in visited:
            continue
        visited.add(group.id)
        yield group
        waiting += [member for member in _members(group) if hasattr(member, "keys")]


def _members(group: Any) -> Iterator[Any]:
    """The first groups and data sets of a group."""
    members = (_own(group, name) for name in islice(group, MOST_MEMBERS))
    return (member for member in members if member is not None)


def _own(group: Any, name: str) -> Any:
    """The member of a group under a name; None if it is missing or in another file."""
    if "/" in name:  # the way to it could lead through another file
        return None
    link = group.get(name, getlink=True)
    return group.get(name) if type(link).__name__ == "HardLink" else None


def _shape(dataset: Any) -> str:
    return "x".join(map(str, dataset.shape or ())) or "scalar"


def _of_group(group: Any, columns: str | None) -> Source | None:
    """Four data sets of one length in a group."""
    names = roles_of(islice(group, MOST_NAMES), columns)
    if len(names) < len(ROLES) or is_order(columns):
        return None
    inside = {role: _own(group, name) for role, name in names.items()}
    counts = {names[role]: _length(dataset) for role, dataset in inside.items()}
    if None in counts.values() or any(dataset.dtype.kind not in "iufb" for dataset in inside.values()):
        return None
    check_lengths(f"the data sets of {group.name}", counts)
    offset = _own(group.parent, "t_offset")
    shift = int(offset[()]) if getattr(offset, "shape", None) == () and offset.dtype.kind in "iu" else 0
    paths = tuple(inside[role].name for role in ROLES)
    return Source(group.name, paths, (None,) * 4, counts[names["t"]] or 0, shift, title_of(names["t"]).unit)


def _of_records(dataset: Any, columns: str | None) -> Source | None:
    """Records with the fields t, x, y, p."""
    fields = dataset.dtype.names or ()
    names = roles_of(fields, columns)
    if fields and columns is not None and is_order(columns):
        names = {role: fields[place] for role, place in column_order(columns, len(fields)).items()}
    kinds = [dataset.dtype[name].kind for name in names.values()]
    if dataset.ndim != 1 or len(kinds) < len(ROLES) or not set(kinds) <= set("iufb"):
        return None
    parts = tuple(names[role] for role in ROLES)
    return Source(dataset.name, (dataset.name,) * 4, parts, dataset.shape[0], unit=title_of(names["t"]).unit)


def _of_table(dataset: Any, columns: str | None) -> Source | None:
    """A data set [E, 4] that is called events, or whose order the user gives."""
    named = dataset.name.rsplit("/", 1)[-1].lower() == "events" or is_order(columns)
    if not named or dataset.ndim != 2 or dataset.dtype.kind not in "iuf" or not 4 <= dataset.shape[1] <= 16:
        return None
    order = column_order(columns or ("xytp" if dataset.dtype.kind == "f" else "txyp"), dataset.shape[1])
    parts = tuple(order[role] for role in ROLES)
    how: Order = "given" if columns else "guessed"
    return Source(dataset.name, (dataset.name,) * 4, parts, dataset.shape[0], order=how)


def _length(dataset: Any) -> int | None:
    """Events in a data set that is one column: [E], or MATLAB's [1, E] and [E, 1]."""
    shape = getattr(dataset, "shape", None)
    if not shape or len(shape) > 2 or (len(shape) == 2 and 1 not in shape):
        return None
    return int(shape[0] if len(shape) == 1 else shape[0] * shape[1])
