"""A profile as a picture: what is drawn where.

Rule: one bar a stage, of its workers' time: what they worked, what they waited for items, what they waited for room;
above them source and consumer. The bottleneck is marked. It is laid out once, in boxes and lines of text, and written
by drawing.py in the format that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .profile import Profile, Share

WIDTH, LEFT, RIGHT, ROW, BAR, TOP = 900, 170, 190, 40, 22, 84
COLOURS = {"busy": "#2a78b8", "waits for items": "#dfe3e6", "waits for room": "#e3a33c"}
INK, GREY, PAPER, GROOVE = "#1d2429", "#66727a", "#ffffff", "#f4f6f7"


@dataclass(frozen=True, slots=True)
class Box:
    """Filled; units are pixels of a screen that knows no smaller ones."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Text:
    """One line, on the baseline y; x is its start, middle or end."""

    x: float
    y: float
    text: str
    colour: str = INK
    size: int = 13
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes, the later ones over the earlier."""

    width: int
    height: int
    shapes: tuple[Box | Text, ...]


def picture(profile: Profile) -> Picture:
    """What a profile looks like."""
    rows = [
        _one("source", profile.source, profile),
        *map(_stage, profile.stages),
        _one("consumer", profile.consumer, profile),
    ]
    height = TOP + ROW * len(rows) + 40
    shapes: list[Box | Text] = [
        Box(0, 0, WIDTH, height, PAPER),
        Text(20, 28, f"Where {profile.seconds:.2f} s went", size=17, bold=True),
        Text(20, 50, f"bottleneck: {profile.bottleneck}", GREY),
        *_legend(),
    ]
    for number, (name, note, shares) in enumerate(rows):
        y = TOP + ROW * number
        shapes.append(Text(LEFT - 12, y + 15, name, anchor="end", bold=name == profile.bottleneck))
        shapes += _bar(y, shares)
        shapes.append(Text(WIDTH - RIGHT + 12, y + 15, note, GREY, 12))
    for percent in range(0, 101, 25):
        x = LEFT + (WIDTH - LEFT - RIGHT) * percent / 100
        shapes.append(Text(x, height - 16, f"{percent} %", GREY, 11, "middle"))
    return Picture(WIDTH, height, tuple(shapes))


def _one(name: str, seconds: float, profile: Profile) -> tuple[str, str, list[tuple[str, float]]]:
    return name, f"{seconds:.2f} s", [(COLOURS["busy"], seconds / profile.seconds if profile.seconds else 0.0)]


def _stage(share: Share) -> tuple[str, str, list[tuple[str, float]]]:
    whole = max(share.busy + share.starved + share.blocked, 1e-9)
    values = (share.busy, share.starved, share.blocked)
    note = f"{share.workers} worker{'' if share.workers == 1 else 's'}, {share.items:,} items"
    return share.name, note, [(colour, value / whole) for colour, value in zip(COLOURS.values(), values, strict=True)]


def _bar(y: int, shares: list[tuple[str, float]]) -> list[Box | Text]:
    room, x = WIDTH - LEFT - RIGHT, float(LEFT)
    shapes: list[Box | Text] = [Box(LEFT, y, room, BAR, GROOVE)]
    for colour, share in shares:
        width = room * min(max(share, 0.0), 1.0)
        shapes.append(Box(x, y, width, BAR, colour))
        if width > 44:
            ink = INK if colour == COLOURS["waits for items"] else PAPER
            shapes.append(Text(x + 8, y + 15, f"{share:.0%}", ink, 12))
        x += width
    return shapes


def _legend() -> list[Box | Text]:
    x, shapes = LEFT + 160, list[Box | Text]()
    for name, colour in COLOURS.items():
        shapes += [Box(x, 18, 12, 12, colour), Text(x + 18, 28, name, GREY, 12)]
        x += 40 + 7 * len(name)
    return shapes
