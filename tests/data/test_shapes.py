"""What a geometry does to photographs, and what is advised against it."""

from typing import Any

import numpy as np
import pytest

from weldnet.data.decode.images import Geometry, measure_shapes

STRIP = (30, 300)


TURN = "data.orient=long_side_vertical"


@pytest.mark.parametrize(
    ("sizes", "keys", "shares", "settings"),
    [
        ([STRIP, (60, 600)], {}, (0, 0, 0), ()),
        ([(20, 300), (30, 400)], {}, (0.5, 0, 0), ()),
        ([(120, 90)], {}, (1, 1, 1), (TURN, "data.image_size.height=112", "data.image_size.width=80")),
        ([(90, 120)], {}, (1, 1, 0), ("data.image_size.height=112", "data.image_size.width=80")),
        ([(300, 30)], {}, (1, 1, 1), (TURN, "data.image_size.height=304", "data.image_size.width=32")),
        ([(300, 30)], {"orient": "long_side_vertical"}, (0, 0, 0), ()),
        ([(300, 30)], {"resize": "letterbox"}, (0, 0, 1), (TURN,)),
        ([(120, 90)], {"height": 96, "width": 96}, (1, 0, 0), ()),
        (
            [(120, 90)],
            {"height": 30, "width": 300},
            (1, 1, 0),
            ("data.image_size.height=80", "data.image_size.width=112"),
        ),
        ([(120, 30)], {"height": 30, "width": 300}, (1, 0, 0), ()),
        ([STRIP, STRIP, (120, 90)], {}, (1 / 3, 1 / 3, 1 / 3), ()),
    ],
)
def test_shapes(
    sizes: list[tuple[int, int]], keys: dict[str, Any], shares: tuple[float, ...], settings: tuple[str, ...]
) -> None:
    shapes = measure_shapes(np.array(sizes), Geometry(**keys))
    assert (shapes.enlarged, shapes.squeezed, shapes.across) == pytest.approx(shares)
    assert shapes.settings == settings
    assert all(setting in shapes.describe() for setting in settings)


def test_what_is_advised_helps() -> None:
    rng = np.random.default_rng(0)
    for aspect in (0.1, 0.5, 1.0, 2.0, 20.0):
        sizes = np.column_stack([rng.integers(50, 90, 40) * aspect, rng.integers(50, 90, 40)]).astype(np.int64)
        shapes = measure_shapes(sizes, Geometry())
        advised: dict[str, Any] = dict(setting.split("=") for setting in shapes.settings)
        keys: dict[str, Any] = {
            key.rpartition(".")[2]: value if "orient" in key else int(value) for key, value in advised.items()
        }
        again = measure_shapes(sizes, Geometry(**keys))
        assert again.settings == ()
        assert again.squeezed <= 0.5
