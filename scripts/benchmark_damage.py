"""Which share of damaged photographs the decoder finds out, by format and kind of damage."""

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_common import Options, draw_photographs
from PIL import Image
from rich.table import Table

from weldnet.console import print_table, watch
from weldnet.data.decode.formats import open_picture
from weldnet.data.decode.pictures import UnreadableImage

NUM_PHOTOGRAPHS = 60
SIZE = (640, 480)

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG, baseline": {"format": "JPEG", "quality": 85},
    "JPEG, progressive": {"format": "JPEG", "quality": 85, "progressive": True},
    "PNG": {"format": "PNG"},
    "WebP, lossy": {"format": "WEBP", "quality": 80},
    "WebP, lossless": {"format": "WEBP", "lossless": True},
}

Damage = Callable[[bytearray, int, int, np.random.Generator], None]
"""Changes the compressed data between two offsets."""


def flip_bits(content: bytearray, start: int, end: int, rng: np.random.Generator, *, number: int) -> None:
    for _ in range(number):
        content[rng.integers(start, end)] ^= 1 << int(rng.integers(8))


def zero(content: bytearray, start: int, end: int, rng: np.random.Generator, *, length: int) -> None:
    at = int(rng.integers(start, end - length))
    content[at : at + length] = bytes(length)


def zero_half(content: bytearray, start: int, end: int, rng: np.random.Generator) -> None:
    middle = (start + end) // 2
    content[middle:end] = bytes(end - middle)


def lose(content: bytearray, start: int, end: int, rng: np.random.Generator) -> None:
    at = int(rng.integers(start, end - 512))
    del content[at : at + 512]


def scramble(content: bytearray, start: int, end: int, rng: np.random.Generator) -> None:
    at = int(rng.integers(start, end - 512))
    content[at : at + 512] = rng.bytes(512)


DAMAGES: dict[str, Damage] = {
    "1 bit": partial(flip_bits, number=1),
    "10 bits": partial(flip_bits, number=10),
    "64 zeros": partial(zero, length=64),
    "512 zeros": partial(zero, length=512),
    "4096 zeros": partial(zero, length=4096),
    "second half zeros": zero_half,
    "512 bytes lost": lose,
    "512 random bytes": scramble,
}


def find_data(content: bytes) -> tuple[int, int]:
    """Where the compressed data start and end: a JPEG's first scan, a PNG's first IDAT, a WebP's chunk."""
    if content.startswith(b"\xff\xd8"):
        return content.index(b"\xff\xda") + 14, len(content) - 2
    if content.startswith(b"RIFF"):
        return 60, len(content) - 1
    return content.index(b"IDAT") + 6, content.index(b"IEND") - 8


def is_found(content: bytes) -> bool:
    """Whether the decoder refuses a file, or reports that it is damaged."""
    try:
        return open_picture(content).damage is not None
    except UnreadableImage:
        return True


def run(options: Options) -> dict[str, Any]:
    """Damages each photograph once in each way; a sound one that is called damaged ends the benchmark."""
    found = {name: dict.fromkeys(DAMAGES, 0) for name in FORMATS}
    with tempfile.TemporaryDirectory() as folder:
        draw_photographs(Path(folder), NUM_PHOTOGRAPHS)
        files = sorted(Path(folder).glob("*.jpg"))
        for number, file in enumerate(watch(files, len(files), "damaging")):
            image = Image.open(file).resize(SIZE)
            for name, settings in FORMATS.items():
                stream = io.BytesIO()
                image.save(stream, **settings)
                assert not is_found(stream.getvalue()), f"a sound {name} is called damaged"
                for kind, damage in DAMAGES.items():
                    content = bytearray(stream.getvalue())
                    damage(content, *find_data(stream.getvalue()), np.random.default_rng([0, number]))
                    found[name][kind] += is_found(bytes(content))
    return {"num_photographs": NUM_PHOTOGRAPHS, "found": found}


def show(figures: dict[str, Any]) -> None:
    table = Table(title=f"found, of {figures['num_photographs']} damaged files each", title_justify="left")
    for column in ("", *DAMAGES):
        table.add_column(column, justify="right" if column else "left")
    for name, row in figures["found"].items():
        table.add_row(name, *(str(row[kind]) for kind in DAMAGES))
    print_table(table)
    print(f"{figures['device']}, {figures['date']}")
