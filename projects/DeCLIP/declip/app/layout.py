"""What stands on the page: the parts that a reader fills in, presses and sees."""

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import gradio as gr

from declip.app.result import PLACEHOLDER

NO_MODEL = "nothing"
TITLE = "Segment by words"
INTRODUCTION = f"""# {TITLE}
Drop a photo and name what you look for. Point at the picture or at a line of the legend to see a class by itself, click
to see what the encoder makes of that place."""
NANO_NOTE = """

`nano` knows only the coloured shapes and textures of its own miniature: what it says of photos means nothing."""
CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto; }
.point { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 1rem; }
.point figure { margin: 0; }
.point .map { position: relative; line-height: 0; }
.point img { width: 100%; border-radius: var(--radius-lg); margin: 0; }
.point .mark {
  position: absolute; width: 14px; height: 14px; margin: -7px 0 0 -7px; border-radius: 50%;
  border: 3px solid white; box-shadow: 0 0 0 2px #111;
}
.point figcaption { margin-top: 0.4rem; font-size: 0.9rem; color: var(--body-text-color); opacity: 0.8; }
"""


class Parts(NamedTuple):
    """All of them; :func:`question_column` makes those left, :func:`answer_column` those right."""

    photo: gr.Image
    offered: gr.Dataset
    names: gr.Textbox
    button: gr.Button
    model: gr.Dropdown
    compare: gr.Dropdown
    unsure: gr.Slider
    words: gr.Textbox
    result: gr.HTML
    other: gr.HTML
    point: gr.HTML
    across: gr.Number
    down: gr.Number
    place: gr.Button


def question_column(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, gr.components.Component]:
    """Photo, names and models, by their names in :class:`Parts`."""
    several = len(titles) > 1
    parts = {
        "photo": gr.Image(label="Photo", sources=["upload", "clipboard"], height=300, elem_id="photo"),
        "offered": gr.Dataset(
            label="Examples",
            components=[gr.Image(visible=False)],
            samples=[[path] for path, _ in rows],
            type="index",
            layout="gallery",
            visible=bool(rows),
            elem_id="examples",
        ),
        "names": gr.Textbox(
            label="What to find",
            info="Names with commas between them; synonyms of one with semicolons: tv; monitor; screen",
            placeholder="car, person, road, sky",
            lines=2,
            max_length=20_000,
            elem_id="names",
        ),
        "button": gr.Button("Segment", variant="primary", elem_id="segment"),
        "model": gr.Dropdown(titles, value=titles[0], label="Model", visible=several, elem_id="model"),
        "compare": gr.Dropdown(
            [NO_MODEL, *titles], value=NO_MODEL, label="Compare with", visible=several, elem_id="compare"
        ),
    }
    with gr.Accordion("What no name fits", open=False):
        below = {"label": "Other, below this probability", "info": "0: every place is named"}
        parts["unsure"] = gr.Slider(0, 0.95, value=0, step=0.05, **below)
        parts["words"] = gr.Textbox(label="Other, by words", info="Such as: wall; floor", max_length=2_000)
    return parts


def answer_column() -> dict[str, gr.components.Component]:
    """Pictures of one model or two, and what is made of a place, by their names in :class:`Parts`."""
    script, style = (
        files("declip.app").joinpath(name).read_text(encoding="utf-8") for name in ("result.js", "result.css")
    )
    shown = {"js_on_load": script, "css_template": style, "min_width": 280}
    with gr.Row():
        parts = {
            "result": gr.HTML(PLACEHOLDER, elem_id="result", **shown),
            "other": gr.HTML(elem_id="other", visible=False, **shown),
        }
    parts["point"] = gr.HTML(elem_id="point")
    with gr.Accordion("A place by numbers", open=False), gr.Row():
        parts["across"] = gr.Number(50, label="Across, %", minimum=0, maximum=100)
        parts["down"] = gr.Number(50, label="Down, %", minimum=0, maximum=100)
        parts["place"] = gr.Button("Show this place", elem_id="place")
    return parts
