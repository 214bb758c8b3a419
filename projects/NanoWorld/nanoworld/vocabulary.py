"""The classes of the nano world: six stuffs, and forty-eight things named by colour and shape.

A quarter of the colour-shape pairs is held out: they never occur in training labels, though each of their colours
and shapes does. A model that names them has generalised.
"""

STUFF = ("grass", "water", "sand", "brick", "sky", "wood")
COLORS = {
    "red": (214, 40, 40),
    "green": (46, 150, 60),
    "blue": (40, 84, 200),
    "yellow": (244, 208, 48),
    "orange": (240, 128, 32),
    "purple": (130, 60, 170),
    "pink": (244, 140, 190),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

THINGS = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
CLASSES = STUFF + THINGS
UNSEEN_CLASSES = tuple(
    f"{color} {shape}"
    for color_index, color in enumerate(COLORS)
    for shape_index, shape in enumerate(SHAPES)
    if (color_index + shape_index) % 4 == 0
)
SEEN_CLASSES = tuple(name for name in CLASSES if name not in UNSEEN_CLASSES)

STUFF_COLORS = {
    "grass": (96, 156, 70),
    "water": (70, 130, 180),
    "sand": (222, 200, 150),
    "brick": (165, 80, 60),
    "sky": (176, 214, 240),
    "wood": (140, 98, 62),
}
"""Mean colour of each stuff; also its colour in label pictures."""
