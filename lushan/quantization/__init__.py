"""Post-training quantisation: observe the ranges of values, choose what bytes stand for, compare.

The pass that rewrites the network is ``lushan.passes.quantize``; it never runs one. Here networks
are run, on calibration pictures.
"""
