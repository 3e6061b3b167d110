"""lushan: recognise pictures with ResNet on an ordinary CPU, and see how the answer came about.

import lushan

recognizer = lushan.load("path/to/model")
for prediction in recognizer.classify("cat.jpg", top=5):
    print(prediction.label, prediction.probability)
"""

from typing import TYPE_CHECKING

from lushan.errors import (
    GraphError,
    LushanError,
    MissingExtraError,
    ModelError,
    PictureError,
    UsageError,
)
from lushan.recognizer import Prediction, Predictions, Recognizer, load

if TYPE_CHECKING:
    from lushan.image.raw_frame import Frame

__version__ = "0.1.0"

__all__ = [
    "Frame",
    "GraphError",
    "LushanError",
    "MissingExtraError",
    "ModelError",
    "PictureError",
    "Prediction",
    "Predictions",
    "Recognizer",
    "UsageError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> object:
    """Load what most calls do without when it is first asked for."""
    if name == "Frame":
        from lushan.image.raw_frame import Frame

        return Frame
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
