"""The settings of an export."""

from dataclasses import asdict, dataclass

from weldnet.errors import InputError, check_choice

INPUTS = ("auto", "fixed")
LAYOUTS = ("nhwc", "nchw")

FOR_FLOAT = {"max_probability_error"}
"""The settings of an export that count for float32; the others count for int8."""


@dataclass
class Bounds:
    """How far an export may be from its checkpoint, on all validation images; from 0 to 1 each.

    Attributes:
        max_probability_error: float: of any probability, and of any distance below 1; relative above it.
        max_accuracy_drop: int8: of the balanced accuracy.
        max_escape_increase: int8: of the escape rate.
        max_verdict_changes: int8: share of the images whose verdict changes, and of those that only one of the two
            finds unlike training.
    """

    max_probability_error: float = 1e-3
    max_accuracy_drop: float = 0.01
    max_escape_increase: float = 0.01
    max_verdict_changes: float = 0.05

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise InputError(f"export.{name}={value:g}: allowed are numbers from 0 to 1")

    def of(self, *, is_int8: bool) -> dict[str, float]:
        """Those that count for a format."""
        return {name: bound for name, bound in asdict(self).items() if is_int8 != (name in FOR_FLOAT)}


@dataclass
class InputSettings:
    """What an export takes.

    Attributes:
        input: `auto`: a photograph as it is, of any size, where the format can; or a finished image of a `fixed` size.
        layout: of a photograph's axes, `nhwc` or `nchw`; a finished image is always `nchw`.
    """

    input: str = "auto"
    layout: str = "nhwc"

    def __post_init__(self) -> None:
        check_choice("export.input", self.input, INPUTS)
        check_choice("export.layout", self.layout, LAYOUTS)


@dataclass
class Int8Settings:
    """How a network is quantised.

    Attributes:
        num_calibration_images: training images that choose the ranges of the activations.
        float_through: from the pixels through this stage the convolutions stay float32: slower, and nearer to the
            checkpoint.
    """

    num_calibration_images: int = 300
    float_through: str = "stem"

    def __post_init__(self) -> None:
        if self.num_calibration_images < 1:
            raise InputError(
                f"export.num_calibration_images={self.num_calibration_images}: allowed are whole numbers from 1"
            )
