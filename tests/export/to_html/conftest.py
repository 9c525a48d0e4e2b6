"""Pages of the model that ships with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

import neuromoco
from neuromoco import models
from neuromoco.export.to_html.export import page_data
from neuromoco.export.to_html.page import build_page
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.spiking.network import pack_network
from tests.helpers.shared import build_once


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of its checkpoint; the report lies next to it."""

    def build(folder: Path) -> None:
        neuromoco.export(models.model_path(suffix=".safetensors"), folder / "digits.html", target="html")

    return build_once(tmp_path_factory, "html-export", build) / "digits.html"


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of its integer network as it ships."""
    pytest.importorskip("h5py")
    twin = TwinNetwork(models.model_path(suffix=".loihi"))
    network = pack_network(twin.graph, twin.header.frames, twin.header.seen.sensor).content
    page = build_page("digits", page_data(twin.header, network, float(twin.graph.readout.scale)))
    file = tmp_path_factory.mktemp("page") / "digits.html"
    file.write_text(page, encoding="utf-8")
    return file
