"""Where the controls of the page stand, and what each of them calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuromoco.app.page.handlers import BACKEND_NAMES, FOLDER, KEPT_SECONDS, Desk, example_path, examples, forget
from neuromoco.app.page.model_view import model_view
from neuromoco.app.page.views import HEADER, empty_view
from neuromoco.errors import NeuromocoError

TORCH_NOTE = "PyTorch takes seconds to start, and answers only when it is chosen."


def lay_out(gr: Any, desk: Desk, max_mb: int) -> Any:
    """The page of a desk."""
    names = list(desk.models)
    page = gr.Blocks(title="neuromoco", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS), fill_width=True)
    with page:
        gr.HTML(HEADER, js_on_load=None, apply_default_css=False)
        with gr.Tabs(elem_classes="nm-tabs"):
            with gr.Tab("Recording"):
                _recording(gr, desk, max_mb)
            with gr.Tab("Models"):
                chosen = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
                shown = gr.HTML(model_view(desk.models[names[0]]), js_on_load=None, apply_default_css=False)
                chosen.input(lambda name: model_view(desk.models[name]), chosen, shown, api_visibility="private")
    return page


def _recording(gr: Any, desk: Desk, max_mb: int) -> None:
    names = list(desk.models)
    shown = gr.State(None, time_to_live=KEPT_SECONDS, delete_callback=forget)
    with gr.Row(elem_classes="nm-columns"):
        with gr.Column(scale=1, min_width=280, elem_classes="nm-side"):
            file = _upload(gr, label=f"Event file, up to {max_mb} MB", elem_id="nm-drop", height=150)
            example = gr.Radio(examples(), label="Or a bundled recording of", elem_id="nm-examples")
            model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
            backend = gr.Radio(_backends(desk, names[0]), value=desk.backends(names[0])[0], label="Computed by",
                               info=TORCH_NOTE if "torch" in desk.backends(names[0]) else None,
                               elem_id="nm-backend")  # fmt: skip
            with gr.Column(visible=False) as windows:
                length = gr.Number(None, label="Window, ms", info="Empty: the whole recording", minimum=1)
                number = gr.Number(0, label="Number of the window, from 0", precision=0, minimum=0)
                go = gr.Button("Show this window", variant="primary")
        with gr.Column(scale=4, min_width=320):
            view = gr.HTML(empty_view(), js_on_load=(FOLDER / "page.js").read_text("utf-8"),
                           apply_default_css=False, elem_id="nm-view", largest=max_mb << 20)  # fmt: skip

    def show(html: str, new: Any, *more: Any) -> Any:
        long = new is not None and (new.upload is not None or new.analysis.facts["duration_ms"] > 1000)
        return html, new, gr.Column(visible=long), *more

    def uploaded(path: str, model: str, backend: str, old: Any) -> Any:
        forget(old)
        new = desk.look(Path(path), model, backend, None, 0, False)
        return show(*new, None, None, None, 0)  # the drop zone is free again, whole recording, no example

    def picked(name: str, model: str, backend: str, old: Any) -> Any:
        forget(old)
        path = example_path(name)
        new = (empty_view(), None) if path is None else desk.look(path, model, backend, None, 0, True)
        return show(*new, None, 0)

    def again(old: Any, model: str, backend: str, length: Any, number: Any) -> Any:
        return show(*desk.again(old, model, backend, length, number))

    def other_model(old: Any, model: str, length: Any, number: Any) -> Any:
        first = desk.backends(model)[0]
        return *again(old, model, first, length, number), gr.Radio(_backends(desk, model), value=first)

    outputs, private = [view, shown, windows], {"api_visibility": "private", "show_progress_on": view}
    file.upload(uploaded, [file, model, backend, shown], [*outputs, file, example, length, number], **private)
    example.input(picked, [example, model, backend, shown], [*outputs, length, number], **private)
    model.input(other_model, [shown, model, length, number], [*outputs, backend], **private)
    backend.input(lambda old, name: show(*desk.switch(old, name)), [shown, backend], outputs, **private)
    for ask in (length.submit, number.submit, go.click):
        ask(again, [shown, model, backend, length, number], outputs, **private)
    _api(gr, desk, file, max_mb)


def _backends(desk: Desk, model: str) -> list[tuple[str, str]]:
    return [(BACKEND_NAMES[name], name) for name in desk.backends(model)]


def _api(gr: Any, desk: Desk, file: Any, max_mb: int) -> None:
    """`/classify` for programs: the answer as `neuromoco predict --json` gives it, and nothing kept."""

    def classify(file: str, model: str, backend: str, window_ms: float | None, window: int) -> Any:
        try:
            return desk.classify(file, model, backend, window_ms, window)
        except NeuromocoError as error:
            raise gr.Error(str(error), print_exception=False) from None

    name = next(iter(desk.models))
    with gr.Group(visible=False):
        model = gr.Textbox(name, label="model")
        backend = gr.Textbox(desk.backends(name)[0], label="backend")
        window_ms = gr.Number(0, label="window_ms")  # 0: the whole recording
        window = gr.Number(0, precision=0, label="window")
        answer = gr.JSON(label="answer")
        gr.Button("classify").click(
            classify, [_upload(gr, label="file"), model, backend, window_ms, window], answer, api_name="classify"
        )


def _upload(gr: Any, **options: Any) -> Any:
    """A file control that takes uploads alone, and leaves nothing beside them."""
    control = gr.File(**options)
    move = control.async_move_resource_to_block_cache

    def path_of(payload: Any) -> str | None:
        return None if payload is None else str(payload.path)  # gradio's own leaves an empty file at each call

    async def only_uploads(path: str | Path | None) -> Any:
        if path is not None and "://" in str(path):
            raise gr.Error("addresses are not fetched here: send the file", print_exception=False)
        return await move(path)

    # Set on the control: a subclass would be taken for a component with a front end of its own.
    control.preprocess, control.async_move_resource_to_block_cache = path_of, only_uploads
    return control
