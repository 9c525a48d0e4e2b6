"""The page and the server under all hostile requests: they refuse, tell and fetch nothing, and go on answering."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.app.attack.requests import Hostile, requests
from tests.app.attack.wire import Place, attacked
from tests.helpers.page_server import Server


@pytest.fixture(params=["page_server", "http_server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    server: Server = request.getfixturevalue(request.param)
    with attacked(server, tmp_path) as place:
        yield place
    server.clear()


def test_hostile_requests_get_nothing_and_stop_nothing(place: Place) -> None:
    asked = requests()
    assert len(asked) >= 200
    before, wrong, well = set(place.secret.parent.iterdir()), [], []

    def send(number_and_one: tuple[int, Hostile]) -> None:
        number, one = number_and_one
        wrong.extend(place.wrong(one.name, *place.send(one.sent, one.cut)))
        if number % 50 == 0:
            well.append(place.is_well())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, enumerate(asked)))
    assert wrong == []
    assert all(well)
    assert place.asked == []
    assert set(place.secret.parent.iterdir()) == before
    assert place.server.said() == ""
