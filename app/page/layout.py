"""The layout of the page's controls, and the handler that each of them calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuromoco import models
from neuromoco.app.page.handlers import PageHandlers, PageInputs, PageState, View, forget, level_of
from neuromoco.app.page.model_view import model_view
from neuromoco.app.page.uploads import KEPT_SECONDS, Uploads
from neuromoco.app.page.views import BACKEND_NAMES, HEADER, LABELS, READING, empty_view, error_view
from neuromoco.app.worker.reading import FIELDS, choices, with_names
from neuromoco.errors import NeuromocoError

FOLDER = Path(__file__).parent
PRIVATE = {"api_visibility": "private", "preprocess": False}  # the handlers check what visitors send
READING_NOTE = '<p class="nm-note">For files that do not say it themselves. Set it before you drop the file.</p>'
UNSAID = {"format": "by its content", "time_unit": "as the file says", "flip": "no", "salvage": "no"}
SAID = {"true": "yes"}
SHAPES = {"sensor": "640x480", "columns": "txyp", "crop": "40,50,30,24"}
ABSTAIN_NOTE = 'Answers that are not sure enough for it are "unsure". 0: none are.'
TORCH_NOTE = "PyTorch takes seconds to start and runs only when you choose it."


def lay_out(gr: Any, handlers: PageHandlers, uploads: Uploads, max_mb: int) -> Any:
    """The page, a `gradio.Blocks`, with its controls connected to the handlers."""
    page = gr.Blocks(title="neuromoco", analytics_enabled=False, fill_width=True)
    with page:
        gr.HTML(HEADER, js_on_load=None, apply_default_css=False)
        with gr.Tabs(elem_classes="nm-tabs"):
            with gr.Tab("Recording"):
                _recording_tab(gr, handlers, uploads, max_mb)
            with gr.Tab("Models"):
                model = _model_choice(gr, handlers)
                view = gr.HTML(model_view(handlers.models[model.value]), js_on_load=None, apply_default_css=False)
                model.input(lambda name: _shown_model(handlers, name), model, view, **PRIVATE)
    return page


def _shown_model(handlers: PageHandlers, name: str) -> str:
    try:
        return model_view(handlers.model(name))
    except NeuromocoError as error:
        return error_view("", str(error))


def _recording_tab(gr: Any, handlers: PageHandlers, uploads: Uploads, max_mb: int) -> None:
    state = gr.State(None, time_to_live=round(KEPT_SECONDS), delete_callback=forget)
    examples = {path.name: path for path in models.example_paths()}
    with gr.Row(elem_classes="nm-columns"):
        with gr.Column(scale=1, min_width=280, elem_classes="nm-side"):
            file = _upload(gr, uploads, label=f"Event file, up to {max_mb} MB", elem_id="nm-drop", height=150)
            example = gr.Radio([(path.stem, name) for name, path in examples.items()],
                               label="Or a bundled recording of the digit", elem_id="nm-examples")  # fmt: skip
            model = _model_choice(gr, handlers)
            backends = _backends(handlers, model.value)
            note = TORCH_NOTE if "torch" in handlers.backends(model.value) else None
            backend = gr.Radio(backends, value=backends[0][1], label="Run by", info=note, elem_id="nm-backend")
            abstain = gr.Number(0, label="Share of wrong answers, at most", info=ABSTAIN_NOTE, minimum=0, maximum=1,
                                step=0.01, elem_id="nm-abstain")  # fmt: skip
            with gr.Accordion(READING, open=False, elem_id="nm-reading"):
                gr.HTML(READING_NOTE, js_on_load=None, apply_default_css=False)
                more = [abstain, *(_reading_field(gr, name) for name in FIELDS)]
            with gr.Column(visible=False) as windows:
                length = gr.Number(None, label="Window, ms", info="Empty: the whole recording", minimum=1)
                number = gr.Number(0, label="Number of the window, from 0", precision=0, minimum=0)
                go = gr.Button("Show this window", variant="primary")
        with gr.Column(scale=4, min_width=320):
            view = gr.HTML(empty_view(), js_on_load=(FOLDER / "page.js").read_text("utf-8"),
                           apply_default_css=False, elem_id="nm-view", largest=max_mb << 20)  # fmt: skip

    def show(new: View, *others: Any) -> Any:
        html, now = new
        return html, now, gr.Column(visible=now is not None and now.is_long), *others

    def inputs_of(model: str, backend: str, length: Any, number: Any, abstain: Any, *words: Any) -> PageInputs:
        return PageInputs(model, backend, length, number, abstain, words)

    def uploaded(file: Any, model: str, backend: str, before: PageState | None, *more: Any) -> Any:
        forget(before)
        new: View = empty_view(), None
        if file:
            new = handlers.show(_path(file), inputs_of(model, backend, None, 0, *more), upload=True)
        return show(new, None, None, None, 0)  # an empty drop zone, no example, the whole recording

    def picked(name: str, model: str, backend: str, before: PageState | None, *more: Any) -> Any:
        forget(before)
        new: View = empty_view(), None
        path = examples.get(name)  # a visitor's name is looked up, never opened
        if path is not None:
            new = handlers.show(path, inputs_of(model, backend, None, 0, *more), upload=False)
        return show(new, None, 0)

    def other_model(before: PageState | None, model: str, length: Any, number: Any, *more: Any) -> Any:
        known = handlers.models.get(model, next(iter(handlers.models.values())))
        backends = _backends(handlers, known.name)
        first = backends[0][1]
        new = handlers.update(before, inputs_of(known.name, first, length, number, *more))
        return show(new, gr.Radio(backends, value=first))

    def set_anew(before: PageState | None, *inputs: Any) -> Any:
        return show(handlers.update(before, inputs_of(*inputs)))

    outputs, private = [view, state, windows], {**PRIVATE, "show_progress_on": view}
    file.upload(uploaded, [file, model, backend, state, *more], [*outputs, file, example, length, number], **private)
    example.input(picked, [example, model, backend, state, *more], [*outputs, length, number], **private)
    model.input(other_model, [state, model, length, number, *more], [*outputs, backend], **private)
    backend.input(lambda *inputs: show(handlers.switch_backend(*inputs)), [state, backend], outputs, **private)
    for event in (length.submit, number.submit, go.click, abstain.submit):
        event(set_anew, [state, model, backend, length, number, *more], outputs, **private)
    _api(gr, handlers, uploads)


def _reading_field(gr: Any, name: str) -> Any:
    """A field for how a file is read; empty, it says nothing."""
    if words := choices(name):
        shown = [(UNSAID[name], ""), *((SAID.get(word, word), word) for word in words if word != "false")]
        return gr.Dropdown(shown, value="", label=LABELS[name], info=FIELDS[name])
    return gr.Textbox("", label=LABELS[name], info=FIELDS[name], placeholder=SHAPES.get(name), max_lines=1)


def _model_choice(gr: Any, handlers: PageHandlers) -> Any:
    names = list(handlers.models)
    return gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)


def _backends(handlers: PageHandlers, model: str) -> list[tuple[str, str]]:
    return [(BACKEND_NAMES[name], name) for name in handlers.backends(model)]


def _api(gr: Any, handlers: PageHandlers, uploads: Uploads) -> None:
    """Adds `/classify` for programs: it answers as `neuromoco predict --json` does and keeps nothing."""

    def classify(file: Any, model: str, backend: str, window_ms: float | None, window: int, *more: Any) -> Any:
        *words, abstain = more
        try:
            level = level_of(abstain)
            inputs = PageInputs(model, backend, window_ms, window, level, words)
            return handlers.classify(_path(file) if file else None, inputs)
        except NeuromocoError as error:
            message = with_names(str(error), {name: name for name in FIELDS}, "=")
            raise gr.Error(message, print_exception=False) from None

    name = next(iter(handlers.models))
    with gr.Group(visible=False):
        model = gr.Textbox(name, label="model")
        backend = gr.Textbox(handlers.backends(name)[0], label="backend")
        window_ms = gr.Number(0, label="window_ms")  # 0: the whole recording
        window = gr.Number(0, precision=0, label="window")
        reading = [gr.Textbox("", label=name) for name in FIELDS]
        abstain = gr.Textbox("", label="abstain")  # empty: every answer is given
        answer = gr.JSON(label="answer")
        gr.Button("classify").click(
            classify, [_upload(gr, uploads, label="file"), model, backend, window_ms, window, *reading, abstain],
            answer, api_name="classify", preprocess=False,
        )  # fmt: skip


def _path(file: dict[str, Any]) -> Path:
    return Path(file["path"])


def _upload(gr: Any, uploads: Uploads, **options: Any) -> Any:
    """A file control that takes the place of an upload, opens nothing else, and creates no other files."""
    control = gr.File(**options)

    async def only_uploads(place: str | Path | None) -> str:
        file = uploads.find(str(place))
        if file is None:
            raise gr.Error("not an upload: send the file itself", print_exception=False)
        return str(file)

    # Set on the control: gradio would take a subclass for a component with its own front end.
    control.async_move_resource_to_block_cache = only_uploads
    return control
