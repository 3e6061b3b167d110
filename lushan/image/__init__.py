"""Picture file → the tensor a network reads: decode, colour, layout, resize, preprocess.

The journey: ``decode`` (any source → upright 8-bit RGB and a report; with ``sources``, ``modes``
and ``color_profile`` behind it) → ``preprocess`` (resize and crop by ``resize``, normalise) →
float32 NHWC. ``color``, ``frame`` and ``layout`` say how pixels can lie in memory otherwise.
Names are imported from their own files: importing this package loads nothing.
"""
