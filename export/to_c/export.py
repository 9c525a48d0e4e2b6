"""From a checkpoint to a folder of C, compared with its source as the integer twin runs it, and with its own code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.events import Recording
from neuromoco.export.check.parity import random_recordings
from neuromoco.export.exporter import check_replaceable
from neuromoco.export.to_c.boards import boards_for, code_bytes
from neuromoco.export.to_c.readme import as_text
from neuromoco.export.to_c.write import HEADER, OURS, README, REPORT, write_example, write_sources
from neuromoco.export.to_loihi.export import IntegerExporter, batches
from neuromoco.export.to_loihi.report import comparison_line
from neuromoco.graph.nodes import Graph
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.blocks import LoihiGraph
from neuromoco.runtime.loihi.twin import run
from neuromoco.runtime.spiking.native import CompiledNetwork, library
from neuromoco.runtime.spiking.network import list_uncompiled, pack_network
from neuromoco.support.files import write_json, write_text
from neuromoco.unsupported import Unsupported

LAYER = ("name", "kind", "shape", "scale", "vThMant", "vDecay", "clipped", "saturated", "rate", "differ", "operations")
TOTAL = ("neurons", "weights", "operations", "clipped", "saturated")


class CExporter(IntegerExporter):
    """Writes a folder of C99."""

    def check_place(self, out: Path) -> None:
        check_replaceable(out, OURS, HEADER, "C")

    def find_too_large(self, loihi: LoihiGraph) -> list[Unsupported]:
        return super().find_too_large(loihi) or list_uncompiled(loihi)

    def write_integers(self, part: Path, header: ExportHeader) -> dict[str, Any]:
        self.packed = pack_network(self.loihi, header.frames, header.seen.sensor)
        write_sources(part, self.packed, self.loihi, header)
        write_example(part, self._example(), self.loihi, header)
        flash = len(self.packed.content) + code_bytes()
        memory = {"ram": self.packed.memory, "network": len(self.packed.content), "flash": flash}
        return {"bytes": memory, "boards": boards_for(self.packed.memory, flash)}

    def _example(self) -> Recording:
        """A recording that the folder carries; noise where the network crops itself and a part was chosen already."""
        crops = self.job.header.frames.crop is not None
        usable = (one for one in self.compared if len(one) and not (crops and one.is_part))
        return next(usable, None) or random_recordings(self.job.header, 1)[0]

    def compare(self, graph: Graph, part: Path) -> tuple[dict[str, Any], str | None]:
        figures, problem = super().compare(graph, part)
        figures["layers"] = [{name: row[name] for name in LAYER} for row in figures["layers"]]
        figures["total"] = {name: figures["total"][name] for name in TOTAL}
        figures["compiled"] = compiled = self._compiled(self.compared)
        if compiled and compiled["logits_differ"]:
            problem = f"the compiled network gives other logits than the twin ({compiled['logits_differ']} of them)"
        return figures, problem

    def _compiled(self, recordings: Sequence[Recording]) -> dict[str, Any] | None:
        """The network compiled for this machine compared with the twin; None without a C compiler."""
        runtime = library()
        if runtime is None:
            return None
        network, differ, seconds = CompiledNetwork(self.packed, runtime), 0, 0.0
        for frames in batches(self.job.classifier, recordings):
            begin = time.perf_counter()
            found = network.logits(frames)
            seconds += time.perf_counter() - begin
            wanted = run(self.loihi, frames).logits
            differ += wanted.size if found is None else int(np.count_nonzero(found != wanted))
        return {
            "recordings": len(recordings),
            "logits_differ": differ,
            "milliseconds": 1e3 * seconds / max(1, len(recordings)),
        }

    def write_report(self, report: dict[str, Any], part: Path, out: Path) -> None:
        write_json(part / REPORT, report)
        write_text(part / README, as_text(report, self.job.header))

    @staticmethod
    def summary(out: Path, report: dict[str, Any]) -> list[str]:
        total, memory, compiled = (report[name] for name in ("total", "bytes", "compiled"))
        return [
            f"{out}: C99, T = {report['steps']}, {total['neurons']:,} neurons, {total['weights']:,} weights of 8 bits; "
            f"{memory['ram']:,} bytes of RAM, {memory['flash']:,} of flash",
            comparison_line(report),
            f"compiled here: all logits those of the integer twin on {compiled['recordings']} recordings, "
            f"{compiled['milliseconds']:.2f} ms each"
            if compiled
            else "not compiled here: no C compiler (install gcc, or set CC)",
            f"fits {', '.join(report['boards'][:4]) or 'none of the boards in its README'}",
            *(f"warning: {warning}" for warning in report["warnings"]),
            f"details: {out / README}; to try it: make -C {out} check",
        ]
