"""Noise taken out of photographs: non-local means, which puts for each pixel the mean of those around it that lie in like
surroundings (Buades, Coll, Morel 2005), on NumPy arrays that pass from process to process where they lie.

    files ──▶ read, which adds noise ──▶ denoise, in n workers ──▶ a sheet: as it was, with noise, without it

Each array is a megabyte or so; none is pickled, and none is copied to be read. The photographs are those that come with
scikit-image, which the extra `examples` brings; others may be given.

    pip install 'process-actors[examples]'
    python examples/photographs.py [FILE ...] [--workers 2] [--out sheet.png]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from actors.pipeline import Pipeline, Run, Stage

Pixels = NDArray[np.float32]  # height, width, colours; 0 to 1
NAMES = (
    "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png",
    "camera.png", "coins.png", "moon.png", "retina.jpg", "grass.png",
)  # fmt: skip
NOISE = 0.1  # standard deviation
REACH, PATCH = 4, 2  # pixels: how far is looked for like ones, and how far around each they must be alike
LIKE = 0.4  # of the noise: what still counts as alike


@dataclass(frozen=True)
class Shot:
    """A photograph: as it was, with noise, without it."""

    name: str
    clean: Pixels
    noisy: Pixels
    mended: Pixels


# --- the stages


def read(path: str, size: int) -> Shot:
    with Image.open(path) as file:
        photograph = ImageOps.fit(file.convert("RGB"), (size, size))
    clean = np.asarray(photograph, np.float32) / np.float32(255)
    chance = np.random.default_rng(crc32(Path(path).name.encode()))  # the same for the same file, also after a death
    noisy = clean + chance.normal(0, NOISE, clean.shape).astype(np.float32)
    return Shot(Path(path).stem, clean, noisy, noisy)


def denoise(shot: Shot) -> Shot:
    noisy = shot.noisy
    total, weights = noisy.copy(), np.ones(noisy.shape[:2], np.float32)
    for y in range(-REACH, REACH + 1):
        for x in range(-REACH, REACH + 1):
            if (y, x) != (0, 0):
                other = np.roll(noisy, (y, x), (0, 1))
                unlike = around(np.square(noisy - other).mean(2)) - 2 * NOISE**2  # what noise alone does not explain
                weight = np.exp(-np.maximum(unlike, 0) / (LIKE * NOISE) ** 2)
                total += weight[..., None] * other
                weights += weight
    return replace(shot, mended=total / weights[..., None])


def around(values: Pixels) -> Pixels:
    """The mean of the square around each pixel: along one axis, then along the other."""
    width = 2 * PATCH + 1
    for _ in range(2):
        sums = np.cumsum(np.pad(values, ((PATCH + 1, PATCH), (0, 0)), "wrap"), 0, np.float64)
        values = ((sums[width:] - sums[:-width]) / width).astype(np.float32).T
    return values


# --- the program


def sequential(paths: Iterable[str], size: int) -> list[Shot]:
    """The same in a plain loop: what the pipeline's result must equal."""
    return [denoise(read(path, size)) for path in paths]


def concurrent(paths: Iterable[str], size: int, workers: int) -> tuple[list[Shot], Run]:
    run = Pipeline(Stage(read, size), Stage(denoise, workers=workers)).run(paths, progress=True)
    return list(run), run


def sheet(shots: list[Shot]) -> Image.Image:
    """A column a photograph: as it was, with noise, without it."""
    columns = [np.concatenate((shot.clean, shot.noisy, shot.mended)) for shot in shots]
    return Image.fromarray((np.clip(np.concatenate(columns, 1), 0, 1) * 255).astype(np.uint8))


def quality(pixels: Pixels, clean: Pixels) -> float:
    """Peak signal to noise, in decibels."""
    return float(-10 * np.log10(np.square(np.clip(pixels, 0, 1) - clean).mean()))


def packaged() -> list[str]:
    """The photographs of scikit-image, found without importing it."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        sys.exit(
            "the photographs are in the package scikit-image, which is not installed: "
            "pip install 'process-actors[examples]', or name other files"
        )
    return [str(Path(spec.origin).parent / "data" / name) for name in NAMES]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--size", type=int, default=384, metavar="PIXELS", help="photographs are cut to squares")
    parser.add_argument("--out", type=Path, help="where to save the sheet, .png or .jpg")
    options = parser.parse_args()
    paths = options.files or packaged()

    begin = time.monotonic()
    shots, run = concurrent(paths, options.size, options.workers)
    middle = time.monotonic()
    expected = sequential(paths, options.size)
    end = time.monotonic()

    for shot in shots:
        print(
            f"{shot.name:<24}{quality(shot.noisy, shot.clean):>6.1f} dB ->{quality(shot.mended, shot.clean):>6.1f} dB"
        )
    print(run.profile())
    if options.out:
        sheet(shots).save(options.out)
    equal = [shot.name for shot in shots] == [shot.name for shot in expected] and all(
        np.array_equal(shot.mended, other.mended) for shot, other in zip(shots, expected, strict=True)
    )
    count = len(shots)
    print(f"actors {count / (middle - begin):.2f} photographs/s, a plain loop {count / (end - middle):.2f}/s,", end=" ")
    print("equal results" if equal else "DIFFERENT results")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
