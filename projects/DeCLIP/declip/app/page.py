"""The page, and what its parts do.

Bad input ends in the sentence that Python and the command line give, in a message on the page. Messages are HTML, so
what comes from outside is escaped. Uploads are read by the desk, within its limits, and not by gradio, which opens
whatever PIL does: its own preprocessing is off. It has made sure, though, that a file is in its folder of uploads.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from d2host.engine.errors import DataError, DeclipError
from declip.app.desk import Desk
from declip.app.layout import INTRODUCTION, NO_MODEL, TITLE, Parts, answer_column, question_column
from declip.app.point import maps_at
from declip.app.result import data_uri, result_html
from declip.plugins import PluginExample
from declip.questions import Background


@contextmanager
def sentences() -> Iterator[None]:
    """Around what may refuse its input: the sentence becomes a message of the page."""
    try:
        yield
    except DeclipError as error:
        raise gr.Error(escape(str(error)), title="Not possible", print_exception=False) from error


def build_page(desk: Desk, examples: Sequence[PluginExample], folder: Path, note: str = "") -> gr.Blocks:
    """The page on a desk.

    Args:
        desk: with one segmenter or more.
        examples: that are offered.
        folder: where their files are written.
        note: Markdown below the introduction.
    """
    rows = write_examples(examples, folder)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(INTRODUCTION + note)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                asked = question_column(list(desk.segmenters), rows)
            with gr.Column(scale=3, min_width=320):
                shown = answer_column()
        connect(desk, Parts(**asked, **shown), rows)
    return page


def connect(desk: Desk, parts: Parts, rows: Sequence[Sequence[str]]) -> None:
    """Let a desk answer what a reader does; to be called where the page's blocks are open."""

    def segment(upload, text, first, second, probability, background):
        with sentences():
            pixels, other_words = read_upload(desk, upload), background_of(probability, background)
            answers = [answer(desk, title, pixels, text, other_words) for title in (first, second)]
        return answers[0], gr.HTML(answers[1], visible=bool(answers[1])), ""

    def explain(upload, title, x, y):
        with sentences():
            return point_html(desk, title, read_upload(desk, upload), place_of(x, y))

    def explain_clicked(upload, title, event: gr.EventData):
        return explain(upload, title, 100 * event.x, 100 * event.y)

    def check(upload):
        with sentences():
            read_upload(desk, upload)

    photo, point = parts.photo, parts.point
    asked = {
        "inputs": [photo, parts.names, parts.model, parts.compare, parts.unsure, parts.words],
        "outputs": [parts.result, parts.other, point],
        "preprocess": False,
        "show_progress_on": parts.result,
    }
    gr.on([parts.button.click, parts.names.submit], segment, **asked, api_name="segment")
    private = {"preprocess": False, "api_visibility": "private", "show_progress": "hidden"}
    taken = parts.offered.click(lambda index: rows[index], parts.offered, [photo, parts.names], **private)
    taken.then(segment, **asked, api_visibility="private")
    photo.upload(check, photo, None, **private)
    parts.result.click(explain_clicked, [photo, parts.model], point, **private)
    parts.other.click(explain_clicked, [photo, parts.compare], point, **private)
    parts.place.click(explain, [photo, parts.model, parts.across, parts.down], point, **private)


def read_upload(desk: Desk, upload: Mapping | None) -> np.ndarray:
    """What the browser says of an upload, as H×W×3 uint8 RGB.

    Raises:
        DataError: there is none, or the desk refuses it.
    """
    if not upload:
        raise DataError("there is no photo: drop one, or take an example")
    if not upload.get("path"):
        raise DataError("the image has no file: upload it as one")
    return desk.read(upload["path"], upload.get("orig_name") or "of the upload")


def answer(desk: Desk, title: str, pixels: np.ndarray, text: str | None, background: Background | None) -> str:
    """One model's picture as HTML; empty where no model is asked.

    Raises:
        DataError: the names cannot be used.
    """
    if title == NO_MODEL:
        return ""
    started = time.perf_counter()
    result = desk.segment(title, pixels, text or "", background)
    return result_html(result, f"{title}, {time.perf_counter() - started:.2f} s")


def place_of(across: float | None, down: float | None) -> tuple[float, float]:
    """A place in percent of width and height as shares of them.

    Raises:
        DataError: a number is missing, or not in 0 to 100.
    """
    if across is None or down is None or not (0 <= across <= 100 and 0 <= down <= 100):
        raise DataError("a place has two numbers, percent of the width and of the height: give them from 0 to 100")
    return across / 100, down / 100


def background_of(probability: float | None, words: str | None) -> Background | None:
    """What makes a place ``other``, of which one is given at most.

    Raises:
        DataError: both are.
    """
    words = (words or "").strip()
    if probability and words:
        raise DataError("'other' is given by a probability and by words: choose one")
    return words or float(probability or 0) or None


def point_html(desk: Desk, title: str, pixels: np.ndarray, place: tuple[float, float]) -> str:
    """What a model's encoder makes of a place, as HTML."""
    figures = []
    mark = f'<span class="mark" style="left: {100 * place[0]:.2f}%; top: {100 * place[1]:.2f}%"></span>'
    for found in maps_at(desk.segmenter(title).encoder, pixels, place).values():
        picture = f'<img alt="{escape(found.text)}" src="{data_uri(found.overlay(), "PNG")}">'
        caption = f"<figcaption>{escape(found.text)} ({escape(title)})</figcaption>"
        figures.append(f'<figure><div class="map">{picture}{mark}</div>{caption}</figure>')
    return f'<div class="point">{"".join(figures)}</div>'


def write_examples(examples: Sequence[PluginExample], folder: Path) -> list[list[str]]:
    """Examples as rows of a file and names, for ``gr.Dataset``."""
    rows = []
    for number, example in enumerate(examples):
        path = folder / f"example{number}.png"
        Image.fromarray(example.image).save(path)
        rows.append([str(path), ", ".join(example.class_names)])
    return rows
