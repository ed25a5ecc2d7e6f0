"""What the shapes data set and the networks trained on it agree about: classes, attributes, parts, input.

Sixteen classes, each a shape, a texture and a colour. A shape takes two textures and two colours and
shares one of each with the next shape, in a circle::

               striped   dotted   checked   ringed      red   yellow   green   blue
    disc          x         x                            x      x
    square                  x         x                         x        x
    triangle                          x        x                         x      x
    star          x                            x         x                      x

So every shape, texture and colour belongs to four classes, no two attributes are enough to name the
class of every image, and each class has neighbours that differ from it in one attribute only.
"""

from __future__ import annotations

from neurochains.preprocess import Preprocess

__all__ = ["ATTRIBUTES", "CLASSES", "COLOURS", "PARTS", "PREPROCESS", "SHAPES", "SIDE", "TEXTURES"]

SHAPES = ("disc", "square", "triangle", "star")
TEXTURES = ("striped", "dotted", "checked", "ringed")
COLOURS = ("red", "yellow", "green", "blue")

ATTRIBUTES: tuple[tuple[str, str, str], ...] = tuple(
    (shape, TEXTURES[texture % 4], COLOURS[colour % 4])
    for number, shape in enumerate(SHAPES)
    for texture in (number, number + 1)
    for colour in (number, number + 1)
)
"""(shape, texture, colour) of each class."""

CLASSES: tuple[str, ...] = tuple(f"{colour} {texture} {shape}" for shape, texture, colour in ATTRIBUTES)
"""Class names such as ``"red striped disc"``; the index is the label and the network's output."""

PARTS = ("body", "outline", "texture", "fill", "corners", "clutter")
"""What the part masks show, in the order of their first axis; `neurochains.data.shapes` says what each is."""

SIDE = 64
"""Side of the images in pixels."""

PREPROCESS = Preprocess(size=(SIDE, SIDE), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), resize=SIDE)
"""How pixels become the bundled networks' input."""
