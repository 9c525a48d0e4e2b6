"""Who may ask: hosts, origins and a token; what no answer lacks: headers that bind a browser.

A name that someone else's page resolved to this machine, or a form on such a page, is how a stranger reaches a
program that listens on loopback only. `Gate` refuses both, for the page and the server alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuromoco.app.server.errors import error_response
from neuromoco.errors import ConfigError

SHORTEST_TOKEN = 16
LARGEST_QUERY = 1024  # bytes
# Headers by which a sender could pretend to be a proxy.
FORGEABLE = (b"forwarded", b"x-forwarded-", b"x-gradio-server", b"x-original-", b"x-rewrite-url", b"x-real-ip")
CLOSED = "frame-ancestors 'none'; form-action 'none'"
NO_SCRIPTS = f"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; {CLOSED}"
ELSEWHERE = "requests of pages elsewhere are refused"
SHARED = {  # of pages elsewhere that may ask: no cookies
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-expose-headers": "retry-after",
    "access-control-max-age": "600",
    "vary": "Origin",
}
ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": NO_SCRIPTS,
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        names: host names that may be asked for, in lower case; where the machine listens on more than loopback, any
            address of digits too, for nobody can make one point elsewhere.
        is_local: whether the machine listens on loopback only.
        origin: how a proxy is reached, such as `https://lab.example`; None without one.
        root: the path that a proxy puts before every other, such as `/events`, or "".
        token: the secret that every request must carry; None to ask for none.
        shared: origins whose pages may ask, too, such as `https://lab.example`.
    """

    names: frozenset[str] = frozenset({"localhost", "127.0.0.1", "::1"})
    is_local: bool = True
    origin: str | None = None
    root: str = ""
    token: str | None = None
    shared: frozenset[str] = frozenset()

    def has_host(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port  # the port may be anything: a proxy's or a tunnel's
        except ValueError:
            return False
        if "@" in host or "/" in host:
            return False
        return name in self.names or (not self.is_local and _is_address(name))

    def has_origin(self, origin: str, host: str) -> bool:
        """Whether an `Origin` header is of a page of this server's."""
        scheme, _, place = origin.lower().partition("://")
        return origin == self.origin or (scheme in ("http", "https") and place == host.lower())


def access_for(address: str, root_path: str = "", token: str | None = None, shared: Collection[str] = ()) -> Access:
    """Who may ask a server that listens on `address`.

    Args:
        address: of the listening socket.
        root_path: a path, or the whole address at which a proxy offers the server.
        token: a secret, if one is to be asked for.
        shared: origins whose pages may ask, too.

    Raises:
        ConfigError: not a root path, a safe token or an origin.
    """
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        make = "such as those of: openssl rand -hex 16"
        raise ConfigError(f"--token: give at least {SHORTEST_TOKEN} printable ASCII characters, {make}")
    for one in shared:
        if not _is_origin(one):
            raise ConfigError(f"--cors {one}: give an origin as browsers send it, such as https://lab.example:8443")
    parts = _root(root_path)
    is_url = bool(parts.netloc)
    is_local = ipaddress.ip_address(address).is_loopback
    names = {"localhost", "127.0.0.1", "::1", address}
    if not is_local:
        own = socket.gethostname().lower()
        names |= {own, f"{own}.local", socket.getfqdn().lower()}
    if is_url:
        names.add(str(parts.hostname))
    origin = f"{parts.scheme}://{parts.netloc.lower()}" if is_url else None
    return Access(frozenset(names), is_local, origin, parts.path.rstrip("/"), token, frozenset(shared))


def _is_origin(given: str) -> bool:
    with contextlib.suppress(ValueError):
        parts = urlsplit(given)
        plain = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and f"{parts.scheme}://{parts.netloc}" == given
        )
        return plain and "@" not in given and given == given.lower() and (parts.port is None or parts.port > 0)
    return False


def _root(given: str) -> SplitResult:
    with contextlib.suppress(ValueError):
        parts = urlsplit(given)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        is_path = not parts.scheme and not parts.netloc and parts.path.startswith("/")
        if not given or ((is_url or is_path) and not parts.query and not parts.fragment):
            return parts
    raise ConfigError(f"--root-path {given}: give a path such as /events, or https://lab.example/events")


class Gate:
    """An application behind checks of host, origin, framing and token, with headers that bind browsers.

    Args:
        app: what is behind the gate.
        access: who may ask.
        policy: the content security policy of answers that carry none.
        where: the name of the cookie ends with it, for a browser sends cookies to every port of a machine.
    """

    def __init__(self, app: ASGIApp, access: Access, policy: str = NO_SCRIPTS, where: str = "") -> None:
        self._app, self._access, self._policy = app, access, policy
        self._cookie = f"neuromoco-token-{where}"
        secret = (access.token or "").encode()
        self._ticket = hmac.new(secret, b"neuromoco cookie", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers or passes on one request, or one WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        shared = self._shared_with(Headers(scope=scope))

        async def send_bound(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                for name, value in {**ALWAYS, "content-security-policy": self._policy, **shared}.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            return await refusal(scope, receive, send_bound)
        return await self._app(self._cleaned(scope), receive, send_bound)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, access = Headers(scope=scope), self._access
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not access.has_host(host):
            return error_response(400, "bad_request", "this server has another name; --root-path gives it more")
        if "transfer-encoding" in headers and "content-length" in headers:
            close = {"connection": "close"}
            return error_response(400, "bad_request", "a body has a length or chunks, not both", close)
        if len(scope["query_string"]) > LARGEST_QUERY:
            return error_response(414, "long_query", f"the query is longer than {LARGEST_QUERY} bytes")
        origin = headers.get("origin")
        is_shared = origin in access.shared
        if origin is not None and not is_shared and not access.has_origin(origin, host):
            return error_response(403, "foreign_page", ELSEWHERE)
        arrives = scope.get("method") in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not arrives and not is_shared:
            return error_response(403, "foreign_page", ELSEWHERE)
        if is_shared and scope.get("method") == "OPTIONS" and "access-control-request-method" in headers:
            return Response(status_code=204)  # before the token, which a browser does not send with this question
        return None if access.token is None else self._token_refusal(scope, headers, access.token)

    def _shared_with(self, headers: Headers) -> dict[str, str]:
        """The headers by which a page elsewhere may read the answer, if it is one that may ask."""
        origin = headers.get("origin")
        if origin not in self._access.shared:
            return {"vary": "Origin"} if self._access.shared else {}
        return {"access-control-allow-origin": str(origin), **SHARED}

    def _token_refusal(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), token):
            return None
        if _same(_cookies(headers).get(self._cookie, ""), self._ticket):
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if len(asked) == 1 and _same(asked[0], token):
            if scope["type"] == "websocket":  # a browser sends no other header of a page's choice with it
                return None
            if scope["method"] == "GET":
                return self._welcome()
        message = "give the token: once as ?token=..., or as Authorization: Bearer ..."
        return error_response(401, "no_token", message, {"www-authenticate": "Bearer"})

    def _welcome(self) -> Response:
        # Not a redirect: browsers send no strict cookie along one that began on another page.
        answer = HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0; url=?"><a href="?">neuromoco</a>')
        secure = (self._access.origin or "").startswith("https:")
        answer.set_cookie(
            self._cookie, self._ticket, path=self._access.root or "/", secure=secure, httponly=True, samesite="strict"
        )
        return answer

    def _cleaned(self, scope: Scope) -> Scope:
        """The request without a root path, and without headers by which a sender could pretend to be a proxy."""
        root, path = self._access.root, scope["path"]
        if root and (path == root or path.startswith(f"{root}/")):  # some proxies keep it, some do not
            path = path[len(root) :] or "/"
        headers = [pair for pair in scope["headers"] if not pair[0].startswith(FORGEABLE)]
        return {**scope, "path": path, "raw_path": path.encode(), "headers": headers}


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        return {name: one.value for name, one in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
