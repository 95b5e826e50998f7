"""The settings of the decision; importing them costs nothing."""

from dataclasses import dataclass


@dataclass
class Targets:
    """What the thresholds must hold; each is in (0, 1).

    Attributes:
        max_escape_rate: defects accepted / all defects.
        max_false_reject_rate: sound images rejected / all sound images.
        confidence: of each of the two by itself.
    """

    max_escape_rate: float = 0.05
    max_false_reject_rate: float = 0.05
    confidence: float = 0.95
