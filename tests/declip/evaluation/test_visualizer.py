import numpy as np
import pytest
import torch
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.palette import class_palette
from declip.evaluation.visualizer import (
    LEGEND_ENTRIES,
    MOST_ROWS,
    OPACITY,
    Segmentation,
    SegmentationVisualizer,
    draw,
    most_frequent,
    paint,
)

NAME = "evaluation_test_images"
COLORS = np.array([[200, 0, 0], [0, 200, 0]], np.float32)


def test_paint_blends_class_colours_and_marks_borders_white():
    image = np.full((4, 6, 3), 100, np.uint8)
    labels = np.zeros((4, 6), np.int64)
    labels[:, 3:] = 1
    painted = paint(image, labels, COLORS)
    assert painted[0, 0].tolist() == [round((1 - OPACITY) * 100 + OPACITY * c) for c in (200, 0, 0)]
    assert (painted[:, 3] == 255).all()


def test_pixels_without_class_show_the_image():
    image = np.full((3, 3, 3), 77, np.uint8)
    assert (paint(image, np.full((3, 3), -1), COLORS) == 77).all()


def test_the_legend_names_the_most_frequent_classes_first():
    panel = np.array([[1, 1, 1, 0, -1]])
    assert most_frequent([Segmentation(np.zeros((1, 5, 3), np.uint8), {"prediction": panel})]) == [1, 0]


NAMES = {
    "short": [f"class {number}" for number in range(5)],
    "847 long ones": [f"a rather long name of the kind that ADE20K has, number {number}" for number in range(847)],
    "one of 100,000 letters": ["x" * 100_000, "short"],
    "long and without spaces": [f"{number}" + "W" * 200 for number in range(30)],
    "dollars": ["$5 bill", "$\\frac{", "a $ b $ c", "\\$", "x_{1}^$"],
    "underscores": ["_background_", "__ignore__", "_"],
    "several lines": ["a\nb\nc" * 9, "tab\there"],
}


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("kind", NAMES)
def test_a_legend_names_every_class_it_shows_within_the_figure(kind, columns, recwarn):
    names = NAMES[kind]
    labels = np.arange(len(names))[None].repeat(3, axis=0)
    row = Segmentation(np.zeros((*labels.shape, 3), np.uint8), {str(title): labels for title in range(columns)})
    figure = draw([row], names, np.asarray(class_palette(len(names)), np.float32))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, texts = legend.get_window_extent(), [text.get_text() for text in legend.get_texts()]
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    assert box.y1 <= min(axis.get_window_extent().y0 for axis in figure.axes) + 1, "it lies on the panels"
    for text, name in zip(texts, names[:LEGEND_ENTRIES], strict=False):
        assert text == name or name.split()[0].startswith(text.split()[0].rstrip("\N{HORIZONTAL ELLIPSIS}"))
    assert len(texts) == min(len(names), LEGEND_ENTRIES + 1) and figure.get_figheight() < 9
    assert len(names) <= LEGEND_ENTRIES or texts[-1] == f"and {len(names) - LEGEND_ENTRIES} more"
    assert not [warning for warning in recwarn if "label" in str(warning.message)]


@pytest.mark.parametrize("size", [(500, 37), (37, 500), (2000, 1), (1, 2000), (1, 1), (30, 40)])
def test_a_figure_is_bounded_whatever_the_shapes_of_its_images(size):
    row = Segmentation.of(np.zeros((*size, 3), np.uint8), {"prediction": np.zeros(size, np.int64)})
    width, height = draw([row, row], ["grass"], COLORS).get_size_inches()
    assert width == pytest.approx(5.2) and 1.5 < height < 12


def test_what_is_drawn_is_no_larger_than_is_seen():
    row = Segmentation.of(
        np.zeros((3000, 1500, 3), np.uint8), {"prediction": np.arange(3000)[:, None] + np.zeros(1500)}
    )
    assert row.image.shape == (1024, 512, 3) and row.panels["prediction"].shape == (1024, 512)
    assert abs(row.panels["prediction"][:, 0] - np.linspace(1, 2998, 1024)).max() < 2


def test_more_rows_than_a_figure_holds_are_refused():
    row = Segmentation(np.zeros((2, 2, 3), np.uint8), {})
    with pytest.raises(DataError, match="cannot be drawn: choose 1 to"):
        draw([row] * (MOST_ROWS + 1), ["grass"], COLORS)


def test_as_many_images_as_wanted_and_an_overview_are_drawn(records, tmp_path):
    visualizer = SegmentationVisualizer(NAME, tmp_path / "drawn", count=2)
    for record in records:
        visualizer.process([record], [{"sem_seg": torch.zeros(record["labels"].shape, dtype=torch.long)}])
    assert visualizer.evaluate() == {}
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["image0.png", "image1.png", "overview.png"]
    assert Image.open(tmp_path / "drawn" / "overview.png").size[0] > 300
