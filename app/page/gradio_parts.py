"""The parts of Gradio on which the page rests: how it is mounted, what it keeps of a session, and a check of both.

Gradio documents few of them, so `check_gradio` looks at all of them before anything listens.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any

from neuromoco.app.page.uploads import Uploads
from neuromoco.app.server.access import Access
from neuromoco.errors import MissingPackageError
from neuromoco.installation import pip_install

AT_ONCE = 2  # calls of one control at the same time; others queue
MOST_QUEUED = 64
API = "/gradio_api"
# Examples of what the page and gradio_client ask for; `guard` passes on these and answers nothing else.
ROUTES = {
    "/": "GET", "/config": "GET", "/theme.css": "GET", "/favicon.ico": "GET", "/assets/x.js": "GET",
    "/static/x.js": "GET", f"{API}/info": "GET", f"{API}/queue/join": "POST", f"{API}/queue/data": "GET",
    f"{API}/call/classify": "POST", f"{API}/call/classify/0": "GET",
}  # fmt: skip


def load_gradio() -> Any:
    """Gradio without telemetry and with short records of what it did."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import and again later
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"  # it looks through all of them after every call
    import gradio

    return gradio


def mount(page: Any, access: Access, **looks: Any) -> Any:
    """The application that serves a page, a `gradio.Blocks`, to nobody but `guard`."""
    from fastapi import FastAPI

    gradio = load_gradio()
    page.queue(max_size=MOST_QUEUED, default_concurrency_limit=AT_ONCE)
    parent = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    root = (access.origin or "") + access.root
    app = gradio.mount_gradio_app(
        parent, page, "/", root_path=root or None, show_error=False, footer_links=["api"], run_history=False,
        enable_monitoring=False, ssr_mode=False, pwa=False, mcp_server=False, **looks,
    )  # fmt: skip
    # Gradio would keep what a closed session held for an hour; without the connection, it goes after its ten minutes.
    page.config["connect_heartbeat"] = False
    return app


class GradioSessions:
    """What Gradio keeps for visitors, by the name of their session."""

    def __init__(self, page: Any) -> None:
        self._page, self._queue = page, page._queue

    def inputs(self, number: int | None, name: str | None) -> tuple[int, list[Any]] | None:
        """The number and the input components of a function, given by number or by its public name."""
        for key, function in self._page.fns.items():
            if key == number or (name is not None and function.api_name == name):
                return key, list(function.inputs)
        return None

    def awaits(self, session: str) -> bool:
        """Whether there are messages that the visitor has yet to read."""
        waiting = self._queue.pending_event_ids_session.get(session)
        return session in self._queue.pending_messages_per_session and bool(waiting)

    def session_of(self, event: str) -> str | None:
        """The session of a call."""
        items = self._queue.pending_event_ids_session.items()
        return next((session for session, events in items if event in events), None)

    def queued(self) -> list[str]:
        """The sessions of the calls that wait, the oldest first."""
        queues = self._queue.event_queue_per_concurrency_id.values()
        events = sorted((event for queue in queues for event in queue.queue), key=lambda event: event.enqueue_time)
        return [event.session_hash for event in events]

    async def forget(self, session: str) -> None:
        """Drops all that is kept for a session, and what it asked for."""
        await self._queue.clean_events(session_hash=session)  # nothing is sent to it any more
        self._queue.pending_messages_per_session.pop(session, None)
        self._queue.pending_event_ids_session.pop(session, None)
        holder = self._page.state_holder
        holder.delete_state(session)
        holder.session_data.pop(session, None)
        holder.time_last_used.pop(session, None)


def check_gradio(page: Any, app: Any, uploads: Uploads) -> None:
    """Looks whether Gradio's parts are as expected.

    Raises:
        MissingPackageError: one is not; the message names it.
    """
    for part, is_there in _parts(page, app, uploads).items():
        try:
            good = is_there()
        except Exception:  # whatever a part raises that is missing or takes other arguments
            good = False
        if not good:
            raise MissingPackageError(
                f"gradio {load_gradio().__version__}: {part} is not as the page needs it; "
                f"{pip_install('app', '--upgrade')} installs a version that fits"
            )


def _parts(page: Any, app: Any, uploads: Uploads) -> dict[str, Callable[[], bool]]:
    queue, holder = page._queue, page.state_holder
    inner = next(route.app for route in app.routes if hasattr(route.app, "uploaded_file_dir"))

    def routes() -> bool:
        from starlette.routing import Match

        asked: list[dict[str, Any]] = [
            {"type": "http", "path": path, "method": method, "headers": [], "root_path": ""}
            for path, method in ROUTES.items()
        ]
        return all(any(route.matches(one)[0] is Match.FULL for route in inner.routes) for one in asked)

    def tables() -> bool:
        mine = (queue.pending_messages_per_session, queue.pending_event_ids_session, holder.session_data)
        return all(isinstance(table, dict) for table in (*mine, holder.time_last_used)) and inner.state_holder is holder

    def states() -> bool:
        holder["check"]  # makes one
        made = "check" in holder.session_data
        asyncio.run(GradioSessions(page).forget("check"))
        return bool(made and "check" not in holder.session_data and "check" not in holder.time_last_used)

    def files() -> bool:
        from gradio.processing_utils import async_move_files_to_cache

        control = next(block for block in page.blocks.values() if block.get_block_name() == "file")
        source = uploads.folder / "check"
        source.write_bytes(b"x")
        place = uploads.keep(source, "check")
        call = {"path": place, "meta": {"_type": "gradio.FileData"}}
        try:
            moved = asyncio.run(async_move_files_to_cache(call, control, check_in_upload_folder=True))
            return bool(moved["path"] == str(uploads.find(place)))
        finally:
            (uploads.folder / place).unlink()
            (uploads.folder / place).parent.rmdir()

    def body() -> bool:
        from gradio.data_classes import PredictBody

        known: set[str] = set(PredictBody.model_fields)
        return {"data", "fn_index", "session_hash", "trigger_id"} <= known

    return {
        "the list of its routes": routes,
        "what it keeps of sessions": tables,
        "how it makes and drops a session": states,
        "the queue of calls": lambda: (
            inspect.iscoroutinefunction(queue.clean_events)
            and isinstance(queue.event_queue_per_concurrency_id, dict)
            and queue.max_size == MOST_QUEUED
        ),
        "how it takes a visitor's file": files,
        "the body of a call": body,
        "the secrecy of errors": lambda: page.show_error is False,
        "the configuration of the page": lambda: page.config["connect_heartbeat"] is False,
    }
