"""Colours of classes that have none of their own."""

import colorsys


def class_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Distinct RGB colours, the same every time: hues a golden angle apart, three levels of lightness in turn."""
    levels = ((0.55, 0.75), (0.42, 0.9), (0.68, 0.6))
    colors = []
    for index in range(num_classes):
        lightness, saturation = levels[index % 3]
        red, green, blue = colorsys.hls_to_rgb(index * 0.6180339887 % 1, lightness, saturation)
        colors.append((round(red * 255), round(green * 255), round(blue * 255)))
    return colors
