"""A page in the browser: a picture or the webcam, thresholds, boxes, and the time of each stage.

Needs gradio: `pip install gradio`. The page and its server ask nothing of the internet.
"""

import os
import threading
import time
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from ssd_jax.detection import Detections
from ssd_jax.detector import PICTURE_FAULTS, SCORE_THRESHOLD, Detector, Result
from ssd_jax.engine import Engine
from ssd_jax.extras import import_extra
from ssd_jax.pictures import read_picture

COLUMNS = ["class", "score", "xmin", "ymin", "xmax", "ymax"]


class TimedEngine:
    """An engine that knows how long its last call in this thread took, in seconds."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._last = threading.local()
        self.class_names, self.canvas = engine.class_names, engine.canvas

    @property
    def seconds(self) -> float:
        """Of the last call in this thread."""
        return self._last.seconds

    def __call__(
        self, canvases: UInt8[np.ndarray, "B S S 3"], sizes: Int32[np.ndarray, "B 2"]
    ) -> Detections:
        """As of `Engine`."""
        started = time.perf_counter()
        found = self._engine(canvases, sizes)
        self._last.seconds = time.perf_counter() - started
        return found


def find(
    detector: Detector, path: str, thresholds: dict[str, float]
) -> tuple[UInt8[np.ndarray, "H W 3"], Result, dict[str, float]]:
    """The drawn picture, what is on it, and the seconds of each stage.

    Args:
      detector: on a `TimedEngine`.
      path: the picture.
      thresholds: of each class.

    Raises:
      OSError, ValueError: the picture cannot be used.
    """
    engine: Any = detector.engine
    started = time.perf_counter()
    result = detector(path, score_threshold=thresholds)
    detected = time.perf_counter()
    picture = read_picture(path)
    read = time.perf_counter()
    drawn = detector.draw(picture, result)
    return (
        drawn,
        result,
        {
            "decode and shrink": detected - started - engine.seconds,
            "network and NMS": engine.seconds,
            "draw": time.perf_counter() - read,
        },
    )


def serve(detector: Detector, *, host: str, port: int, wait: bool = True) -> Any:
    """Serves the page.

    Args:
      detector: what it shows.
      host: the address to listen at; '0.0.0.0' lets other machines see the page.
      port: of the page.
      wait: until Ctrl-C; else returns at once.

    Returns:
      The `gradio.Blocks`; its `close()` ends what was not waited for.

    Raises:
      ValueError: gradio is not installed.
      OSError: the port is taken.
    """
    page = build_page(detector)
    # The usual theme fetches fonts from the internet.
    theme = library().themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        show_error=True,
        theme=theme,
        prevent_thread_lock=not wait,
    )
    return page


def library() -> Any:
    """gradio, an optional dependency."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read where gradio is imported
    return import_extra("gradio", "the page needs gradio")


def build_page(detector: Detector) -> Any:
    """A `gradio.Blocks`, to be launched; a ValueError says that gradio is not installed."""
    gr = library()
    timed = Detector(TimedEngine(detector.engine), batch_size=detector.batch_size)
    names = detector.class_names

    def show(path: str | None, *scores: float) -> tuple[Any, list[list[Any]], str]:
        if path is None:
            return None, [], ""
        try:
            drawn, result, seconds = find(timed, path, dict(zip(names, scores, strict=True)))
        except PICTURE_FAULTS as fault:
            raise gr.Error(str(fault)) from fault
        rows = [
            [name, round(float(score), 3), *(round(float(edge), 1) for edge in box)]
            for name, score, box in zip(result.names, result.scores, result.boxes, strict=True)
        ]
        times = " · ".join(f"{stage} {1000 * time:.1f} ms" for stage, time in seconds.items())
        return drawn, rows, f"{len(rows)} objects · {times}"

    with gr.Blocks(title="ssd_jax", analytics_enabled=False, fill_width=True) as page:
        with gr.Row():
            # As it was uploaded: the detector reads it as it reads files.
            given = gr.Image(
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                image_mode=None,
                label="picture",
                elem_id="given",
            )
            drawn = gr.Image(
                label="found",
                interactive=False,
                format="png",
                buttons=["download", "fullscreen"],
                elem_id="drawn",
            )
        summary = gr.Markdown(elem_id="summary")
        overall = gr.Slider(
            0, 1, SCORE_THRESHOLD, step=0.01, label="score threshold", elem_id="overall"
        )
        with gr.Accordion("score threshold of each class", open=len(names) <= 10):
            with gr.Row():
                sliders = [
                    gr.Slider(0, 1, SCORE_THRESHOLD, step=0.01, label=name, min_width=200)
                    for name in names
                ]
        table = gr.Dataframe(headers=COLUMNS, interactive=False, elem_id="table")
        wiring: dict[str, Any] = {
            "inputs": [given, *sliders],
            "outputs": [drawn, table, summary],
            "show_progress": "minimal",
            "trigger_mode": "always_last",
        }
        given.change(show, **wiring)
        for slider in sliders:
            slider.input(show, **wiring)
        overall.input(
            lambda value: [value] * len(names) if len(names) > 1 else value,
            inputs=overall,
            outputs=sliders,
            show_progress="hidden",
        ).then(show, **{**wiring, "trigger_mode": "multiple"})
    return page
