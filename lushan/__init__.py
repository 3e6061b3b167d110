"""lushan: recognise pictures with ResNet on an ordinary CPU, and see how the answer came about.

import lushan

recognizer = lushan.load("path/to/model")
for prediction in recognizer.classify("cat.jpg", top=5):
    print(prediction.label, prediction.probability)
"""

from lushan.errors import (
    GraphError,
    LushanError,
    MissingExtraError,
    ModelError,
    PictureError,
    UsageError,
)
from lushan.recognizer import Prediction, Predictions, Recognizer, load

__version__ = "0.1.0"

__all__ = [
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
