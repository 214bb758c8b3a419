"""The page's server, and what it may do: everything stays on the machine unless it is asked for otherwise."""

import os
import weakref
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import cbook

from d2host.engine.errors import ConfigError
from declip.app.desk import Desk, Limits
from declip.data.reading import read_image
from declip.encoder_segmenter import load_segmenter
from declip.plugins import PluginExample, from_plugins

if TYPE_CHECKING:
    import gradio

EXTRA = "pip install 'gradio>=6.31,<7', or this project with its extra [demo]"
PHOTO = ("grace_hopper.jpg", ("face", "uniform; dark coat", "cap; hat", "flag", "wall"))  # matplotlib brings it along
QUEUED, AT_ONCE = 32, 2  # questions that wait, and that are answered together


def serve(
    models: Sequence[str],
    *,
    device: str = "auto",
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    block: bool = True,
) -> "gradio.Blocks":
    """Serve the page; its address is the ``local_url`` of what is returned.

    Args:
        models: each as :func:`declip.load_segmenter` takes it; ``NAME:WEIGHTS`` is an encoder with weights.
        device: of the models.
        limits: of what is taken.
        host, port: where it listens; port 0: any that is free.
        share: whether gradio's servers hand out a public address.
        block: whether to serve until the process is interrupted.

    Raises:
        ConfigError, CheckpointError: gradio is not installed, a model cannot be had, or the port is taken.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio as gr
    except ImportError as error:
        raise ConfigError(f"the page needs a package that is not installed ({error}): {EXTRA}") from error
    from declip.app.layout import CSS, NANO_NOTE
    from declip.app.page import build_page

    desk = Desk({model: load_segmenter(*split_model(model), device=device) for model in models}, limits)
    for title in desk.segmenters:  # the first question of all takes longest: here, so that no reader waits for it
        desk.segment(title, np.zeros((64, 64, 3), np.uint8), ["grass", "sky"])
    encoders = {segmenter.encoder.name for segmenter in desk.segmenters.values()}
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none of the network's
    folder = TemporaryDirectory(prefix="declip-page-")
    page = build_page(desk, examples_for(encoders), Path(folder.name), NANO_NOTE if "nano" in encoders else "")
    weakref.finalize(page, folder.cleanup)  # with the page, at the latest when the process ends
    page.queue(max_size=QUEUED, default_concurrency_limit=AT_ONCE)
    try:
        _, address, public = page.launch(
            server_name=host,
            server_port=port or None,
            share=share,
            max_file_size=desk.limits.file_bytes,
            theme=gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", **fonts),
            css=CSS,
            footer_links=[],
            ssr_mode=False,
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        raise ConfigError(f"the page cannot be served at {host}:{port} ({error}): give another --port") from error
    print(f"The page is at {public or address} (Ctrl+C ends it)", flush=True)
    if block:
        page.block_thread()
    return page


def examples_for(encoders: Collection[str]) -> list[PluginExample]:
    """What plug-ins offer to try encoders of these names on, and a photo."""
    offered = [example for name, make in from_plugins("examples").items() if name in encoders for example in make()]
    with open(cbook.get_sample_data(PHOTO[0], asfileobj=False), "rb") as file:
        return [*offered, PluginExample(read_image(file, name=PHOTO[0]), PHOTO[1])]


def split_model(model: str) -> tuple[str, str | None]:
    """A model, and the weights of one that is given as ``NAME:WEIGHTS``.

    >>> split_model("ViT-B-16:openai"), split_model("nano")
    (('ViT-B-16', 'openai'), ('nano', None))
    """
    name, _, weights = model.partition(":")
    return (model, None) if os.path.exists(model) or not weights else (name, weights)
