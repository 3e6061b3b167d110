"""lushan: recognise pictures with ResNet on an ordinary CPU, and see how the answer came about."""

__version__ = "0.1.0"
