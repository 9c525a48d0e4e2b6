"""Looks at Gradio's parts as `neuromoco app` does, then once with each of them spoiled; prints what is said of each."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

from neuromoco.app.page import gradio_parts
from neuromoco.app.page.handlers import PageHandlers
from neuromoco.app.page.layout import lay_out
from neuromoco.app.page.uploads import Uploads
from neuromoco.app.server.access import Access
from neuromoco.app.worker.analysis import offered_models
from neuromoco.errors import MissingPackageError


def main() -> None:
    """Prints a JSON object: what was spoiled, and the message about it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = f"{folder}/gradio"
        uploads = Uploads(Path(folder, "uploads"), 1 << 20)
        uploads.folder.mkdir()
        handlers = PageHandlers(None, offered_models())  # type: ignore[arg-type]
        page = lay_out(gradio_parts.load_gradio(), handlers, uploads, 1)
        app = gradio_parts.mount(page, Access(), max_file_size=1 << 20)

        def said() -> str:
            try:
                gradio_parts.check_gradio(page, app, uploads)
            except MissingPackageError as error:
                return str(error)
            return ""

        spoiled: dict[str, Callable[[], AbstractContextManager[object]]] = {
            "the list of its routes": lambda: patch.dict(gradio_parts.ROUTES, {"/gradio_api/moved": "GET"}),
            "what it keeps of sessions": lambda: patch.object(page._queue, "pending_event_ids_session", []),
            "how it makes and drops a session": lambda: patch.object(page.state_holder, "delete_state", None),
            "the queue of calls": lambda: patch.object(page._queue, "max_size", None),
            "how it takes a visitor's file": lambda: patch("gradio.processing_utils.async_move_files_to_cache", None),
            "the body of a call": lambda: patch("gradio.data_classes.PredictBody", dict),
            "the secrecy of errors": lambda: patch.object(page, "show_error", True),
            "the configuration of the page": lambda: patch.dict(page.config, {"connect_heartbeat": True}),
        }
        told = {"as it is": said()}
        for part, spoil in spoiled.items():
            with spoil():
                told[part] = said()
        print(json.dumps(told))


if __name__ == "__main__":
    main()
