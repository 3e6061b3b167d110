"""Picture file → the tensor a network reads: decode, colour, layout, resize, preprocess."""
