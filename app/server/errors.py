"""Refusals of the server, in one shape: `{"error": "one line for people", "code": "a_word_for_programs"}`."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

# Codes by status, with what they mean.
CODES: dict[int, dict[str, str]] = {
    400: {
        "bad_request": "Not HTTP as it should be, or for a host of another name.",
        "bad_form": "The form is damaged.",
        "bad_argument": "A field that does not exist, that does not fit the file, or whose word is not allowed.",
        "bad_file": "The file is no recording, or is damaged.",
        "over_limit": "The file takes more time or memory than is allowed.",
        "disconnected": "The sender disconnected.",
    },
    401: {"no_token": "The token is missing or wrong."},
    403: {"foreign_page": "The request is that of a page elsewhere."},
    404: {"not_found": "There is no such address."},
    405: {"method_not_allowed": "The address takes another method."},
    408: {"slow": "The upload took too long, or paused too long."},
    413: {"too_large": "The file is too large."},
    414: {"long_query": "The query is too long."},
    415: {"media_type": "The body is neither a form nor bytes."},
    422: {"bad_value": "A field is missing, or its value is not allowed."},
    426: {"no_websocket": "The address takes a WebSocket."},
    500: {"defect": "A bug in the server."},
    503: {
        "starting": "Not all workers are ready yet.",
        "busy": "Too many files are waiting; see Retry-After.",
        "not_analysed": "The file's worker was killed from outside.",
        "disk": "The upload could not be stored.",
        "ending": "The server is ending.",
    },
}


class RefusedError(Exception):
    """The server refuses a request, with an HTTP status and a code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def error_body(code: str, message: str) -> dict[str, str]:
    """The JSON of a refusal."""
    return {"error": " ".join(message.split()), "code": code}


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that is refused."""
    again = {"retry-after": "1"} if status in (429, 503) else {}
    return JSONResponse(error_body(code, message), status, {**again, **(headers or {})})
