"""A profile as a picture: SVG, made by hand.

Rule: one bar a stage, of its workers' time: what they worked, what they waited for items, what they waited for room;
above them source and consumer. The bottleneck is marked. No script, no font and no file besides: any browser shows it.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .profile import Profile, Share

WIDTH, LEFT, RIGHT, ROW, BAR, TOP = 900, 170, 190, 40, 22, 84
COLOURS = {"busy": "#2a78b8", "waits for items": "#dfe3e6", "waits for room": "#e3a33c"}
INK, GREY = "#1d2429", "#66727a"


def picture(profile: Profile) -> str:
    """The SVG's text."""
    rows = [
        _one("source", profile.source, profile),
        *map(_stage, profile.stages),
        _one("consumer", profile.consumer, profile),
    ]
    height = TOP + ROW * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(20, 28, f"Where {profile.seconds:.2f} s went", size=17, weight="bold"),
        _text(20, 50, f"bottleneck: {profile.bottleneck}", colour=GREY),
        *_legend(),
    ]
    for number, (name, note, shares) in enumerate(rows):
        y = TOP + ROW * number
        marked = name == profile.bottleneck
        parts.append(_text(LEFT - 12, y + 15, name, anchor="end", weight="bold" if marked else "normal"))
        parts += _bar(y, shares)
        parts.append(_text(WIDTH - RIGHT + 12, y + 15, note, colour=GREY, size=12))
    for percent in range(0, 101, 25):
        x = LEFT + (WIDTH - LEFT - RIGHT) * percent / 100
        parts.append(_text(x, height - 16, f"{percent} %", colour=GREY, size=11, anchor="middle"))
    return "\n".join([*parts, "</svg>", ""])


def _one(name: str, seconds: float, profile: Profile) -> tuple[str, str, list[tuple[str, float]]]:
    return name, f"{seconds:.2f} s", [(COLOURS["busy"], seconds / profile.seconds if profile.seconds else 0.0)]


def _stage(share: Share) -> tuple[str, str, list[tuple[str, float]]]:
    whole = max(share.busy + share.starved + share.blocked, 1e-9)
    values = (share.busy, share.starved, share.blocked)
    note = f"{share.workers} worker{'' if share.workers == 1 else 's'}, {share.items:,} items"
    return share.name, note, [(colour, value / whole) for colour, value in zip(COLOURS.values(), values, strict=True)]


def _bar(y: int, shares: list[tuple[str, float]]) -> list[str]:
    room, x, parts = WIDTH - LEFT - RIGHT, float(LEFT), []
    parts.append(f'<rect x="{LEFT}" y="{y}" width="{room}" height="{BAR}" fill="#f4f6f7"/>')
    for colour, share in shares:
        width = room * min(max(share, 0.0), 1.0)
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
        if width > 44:
            ink = INK if colour == COLOURS["waits for items"] else "white"
            parts.append(_text(x + 8, y + 15, f"{share:.0%}", colour=ink, size=12))
        x += width
    return parts


def _legend() -> list[str]:
    x, parts = LEFT + 160, []
    for name, colour in COLOURS.items():
        parts.append(f'<rect x="{x}" y="18" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, 28, name, colour=GREY, size=12))
        x += 40 + 7 * len(name)
    return parts


def _text(
    x: float, y: float, text: str, *, colour: str = INK, size: int = 13, anchor: str = "start", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )
