"""Writes a picture: as SVG, by hand, or as PNG, by Pillow.

Rule: SVG needs nothing, neither here nor where it is looked at: no script, no font, no file besides. PNG is for what
shows no SVG (a chat, a terminal, a slide), twice as large as its units, so that text is sharp; Pillow is imported when
one is written. Rejected for it: renderers of SVG, which take their fonts from the machine and leave out all text where
there are none, as in most containers (Pillow brings one with it); matplotlib, which is seven times as large for a few
bars.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ..errors import SpecError
from .picture import PAPER, Box, Picture, Text

if TYPE_CHECKING:
    from pathlib import Path

SCALE = 2  # pixels of a PNG a unit
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # Pillow's: left, middle or right, on the baseline


def write(picture: Picture, path: Path) -> None:
    """In the format that the file's suffix names. SpecError: it is neither .svg nor .png, or Pillow is missing."""
    match path.suffix.lower():
        case ".svg":
            path.write_text(svg(picture), encoding="utf-8")
        case ".png":
            _png(picture, path)
        case _:
            raise SpecError(f"{path.name}: a profile is saved as .svg or .png")


def svg(picture: Picture) -> str:
    """The SVG's text."""
    size = f'width="{picture.width}" height="{picture.height}" viewBox="0 0 {picture.width} {picture.height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif">',
            *map(_element, picture.shapes),
            "</svg>\n",
        ]
    )


def _element(shape: Box | Text) -> str:
    if isinstance(shape, Box):
        return (
            f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}" '
            f'fill="{shape.colour}"/>'
        )
    return (
        f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" fill="{shape.colour}" font-size="{shape.size}" '
        f'text-anchor="{shape.anchor}" font-weight="{"bold" if shape.bold else "normal"}">{escape(shape.text)}</text>'
    )


def _png(picture: Picture, path: Path) -> None:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise SpecError(
            f"{path.name}: writing PNG needs Pillow, which is not installed: pip install 'process-actors[png]', "
            f"or save as .svg, which needs nothing"
        ) from None
    image = Image.new("RGB", (picture.width * SCALE, picture.height * SCALE), PAPER)
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        x, y = round(shape.x * SCALE), round(shape.y * SCALE)
        if isinstance(shape, Text):
            font = ImageFont.load_default(shape.size * SCALE)
            stroke = 0.5 if shape.bold else 0  # the font has no bold face
            draw.text((x, y), shape.text, shape.colour, font, ANCHORS[shape.anchor], stroke_width=stroke)
        elif right := round((shape.x + shape.width) * SCALE) - x:
            draw.rectangle((x, y, x + right - 1, y + round(shape.height * SCALE) - 1), shape.colour)
    image.save(path, optimize=True)
