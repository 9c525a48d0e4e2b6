"""Who may ask: names and origins that are refused, the token, a proxy's path, and the headers of every answer."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from neuromoco.app.server.access import Access, Gate, access_for
from neuromoco.errors import ConfigError

TOKEN = "0123456789abcdef-é".encode().hex()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the path and headers that it was given."""
    request = Request(scope)
    headers = {"access-control-allow-origin": "*"}
    await JSONResponse({"path": request.url.path, "headers": list(request.headers)}, headers=headers)(
        scope, receive, send
    )


def ask(access: Access, path: str = "/", method: str = "GET", **headers: str | bytes) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(Gate(echo, access, where="1"))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
            return await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return asyncio.run(once())


LOCAL = access_for("127.0.0.1")
NETWORK = access_for("0.0.0.0")
PROXIED = access_for("127.0.0.1", "https://lab.example:8443/events")


@pytest.mark.parametrize(
    ("access", "host", "status"),
    [
        (LOCAL, "127.0.0.1:7860", 200),
        (LOCAL, "localhost", 200),
        (LOCAL, "LOCALHOST:1", 200),
        (LOCAL, "[::1]:7860", 200),
        (LOCAL, "192.168.1.7:7860", 400),
        (LOCAL, "evil.example", 400),
        (LOCAL, "localhost.evil.example", 400),
        (LOCAL, "127.0.0.1.nip.io", 400),
        (LOCAL, "127.0.0.1@evil.example", 400),
        (LOCAL, "evil.example/127.0.0.1", 400),
        (LOCAL, "127.0.0.1:x", 400),
        (LOCAL, "[::1", 400),
        (LOCAL, "", 400),
        (NETWORK, "192.168.1.7:7860", 200),
        (NETWORK, "[fd00::7]:7860", 200),
        (NETWORK, "evil.example:7860", 400),
        (NETWORK, "2130706433", 400),
        (PROXIED, "lab.example:8443", 200),
        (PROXIED, "127.0.0.1", 200),
        (PROXIED, "other.example", 400),
    ],
)
def test_only_its_own_names_reach_it(access: Access, host: str, status: int) -> None:
    assert ask(access, Host=host).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:7860", 200),
        ("https://lab.example:8443", 200),
        ("http://127.0.0.1:7861", 403),
        ("https://evil.example", 403),
        ("https://lab.example", 403),
        ("null", 403),
        ("file://127.0.0.1:7860", 403),
        ("", 403),
    ],
)
def test_pages_elsewhere_reach_nothing(origin: str, status: int) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert ask(PROXIED, method=method, Origin=origin).status_code == status


def test_a_link_elsewhere_may_lead_here_and_nothing_else_may() -> None:
    elsewhere = {"Sec_Fetch_Site": "cross-site"}
    assert ask(LOCAL, Sec_Fetch_Mode="navigate", **elsewhere).status_code == 200
    assert ask(LOCAL, Sec_Fetch_Mode="no-cors", **elsewhere).status_code == 403
    assert ask(LOCAL, method="POST", Sec_Fetch_Mode="navigate", **elsewhere).status_code == 403


def test_every_answer_binds_browsers_and_shares_with_nobody() -> None:
    for answer in (ask(LOCAL), ask(LOCAL, Host="evil.example"), ask(access_for("127.0.0.1", token=TOKEN))):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_a_browser_gives_the_token_once_and_a_program_each_time() -> None:
    access = access_for("127.0.0.1", "/events", TOKEN)
    assert ask(access).status_code == 401
    assert ask(access).headers["www-authenticate"] == "Bearer"
    assert ask(access, Authorization=f"Bearer {TOKEN}").json()["path"] == "/"
    for wrong in ("", "x" * 32, f"{TOKEN}x", "é"):
        assert ask(access, Authorization=f"Bearer {wrong}".encode()).status_code == 401
        assert ask(access, f"/?token={wrong}").status_code == 401
    assert ask(access, f"/?token={TOKEN}&token={TOKEN}").status_code == 401
    assert ask(access, f"/?token={TOKEN}", method="POST").status_code == 401
    welcome = ask(access, f"/?token={TOKEN}")
    cookie = welcome.headers["set-cookie"]
    assert TOKEN not in cookie + welcome.text
    assert {"HttpOnly", "Path=/events", "SameSite=strict"} <= set(cookie.split("; "))
    assert ask(access, Cookie=cookie.split(";")[0]).json()["path"] == "/"
    assert ask(access, Cookie="neuromoco-token-1=x; \x01=").status_code == 401
    secure = ask(access_for("127.0.0.1", "https://lab.example", TOKEN), f"/?token={TOKEN}", Host="lab.example")
    assert "Secure" in secure.headers["set-cookie"]


def test_a_proxys_path_is_taken_off_and_its_headers_are_not_believed() -> None:
    for given, seen in {"/events/x": "/x", "/events": "/", "/x": "/x", "/eventsx": "/eventsx"}.items():
        answer = ask(
            PROXIED, given, X_Forwarded_Host="evil.example", X_Gradio_Server="http://evil.example", Forwarded="x"
        )
        assert answer.json()["path"] == seen
        assert not {"x-forwarded-host", "x-gradio-server", "forwarded"} & set(answer.json()["headers"])


SHARED = access_for("127.0.0.1", token=TOKEN, shared=["https://lab.example"])
PAGE = {"Origin": "https://lab.example", "Sec_Fetch_Site": "cross-site"}


def test_a_page_elsewhere_that_is_named_may_ask_with_the_token_and_read_the_answer() -> None:
    question = ask(SHARED, method="OPTIONS", Access_Control_Request_Method="POST", **PAGE)
    assert question.status_code == 204
    assert question.headers["access-control-allow-origin"] == "https://lab.example"
    assert "authorization" in question.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in question.headers
    assert ask(SHARED, method="POST", **PAGE).status_code == 401
    answer = ask(SHARED, method="POST", Authorization=f"Bearer {TOKEN}", **PAGE)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://lab.example")
    assert answer.headers["vary"] == "Origin"


def test_a_page_that_is_not_named_gets_nothing() -> None:
    for access in (LOCAL, SHARED):
        for origin in ("https://other.example", "http://lab.example", "https://lab.example:1", "null"):
            asked = {"Origin": origin, "Access_Control_Request_Method": "POST", "Authorization": f"Bearer {TOKEN}"}
            for method in ("OPTIONS", "POST"):
                answer = ask(access, method=method, **asked)
                assert answer.status_code == 403
                assert answer.json()["code"] == "foreign_page"
                assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "given", ["*", "lab.example", "https://lab.example/", "https://a@b", "file://x", "https://LAB.example", "null", ""]
)
def test_what_is_no_origin_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--cors .*: give an origin"):
        access_for("127.0.0.1", shared=[given])


def connect(access: Access, query: str = "", **headers: str) -> dict[str, Any]:
    """What a WebSocket's sender is told first."""
    told: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        told.append(message)

    pairs = {"host": "127.0.0.1:7860", **{name.replace("_", "-").lower(): value for name, value in headers.items()}}
    scope = {
        "type": "websocket",
        "path": "/stream",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
    }
    asyncio.run(Gate(app, access, where="1")(scope, receive, send))
    first: dict[str, Any] = told[0]
    return first


@pytest.mark.parametrize(
    ("access", "headers", "status"),
    [
        (LOCAL, {}, None),
        (LOCAL, {"Origin": "http://127.0.0.1:7860"}, None),
        (LOCAL, {"Host": "evil.example"}, 400),
        (LOCAL, {"Origin": "https://evil.example"}, 403),
        (LOCAL, {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "websocket"}, 403),
        (SHARED, {}, 401),
        (SHARED, {"Authorization": f"Bearer {TOKEN}"}, None),
        (SHARED, {"Authorization": f"Bearer {TOKEN}", **PAGE}, None),
        (SHARED, {"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"}, 403),
    ],
)
def test_a_websocket_is_checked_as_a_request_is(access: Access, headers: dict[str, str], status: int | None) -> None:
    first = connect(access, **headers)
    assert first["type"] == ("websocket.http.response.start" if status else "websocket.accept")
    assert first.get("status") == status


def test_a_websocket_may_give_the_token_in_its_query() -> None:
    assert connect(SHARED, f"token={TOKEN}")["type"] == "websocket.accept"
    assert connect(SHARED, f"token={TOKEN}x")["status"] == 401


def test_a_body_of_two_lengths_is_refused() -> None:
    assert ask(LOCAL, method="POST", Transfer_Encoding="chunked", Content_Length="3").status_code == 400


@pytest.mark.parametrize(
    "given", ["events", "ftp://lab.example/", "https://", "//lab.example/x", "https://a@b/", "/x?y=1", "https://[x/"]
)
def test_mistakes_of_a_root_path_are_named(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--root-path .*: give a path such as /events"):
        access_for("127.0.0.1", given)


@pytest.mark.parametrize("given", ["", "short", "x" * 15, "é" * 20, "x" * 16 + "\n"])
def test_weak_tokens_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="--token: give at least 16"):
        access_for("127.0.0.1", token=given)
