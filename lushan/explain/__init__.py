"""See inside: what a network made of one picture, as arrays first and drawings second.

from lushan import load
from lushan.explain import Inspection, cam, deconvnet

inspection = Inspection(load("path/to/model"), "cat.jpg")
cam(inspection, 281).values  # the score of class 281, place by place
"""

from lushan.explain.activations import ActivationStatistics, activation_statistics
from lushan.explain.class_maps import ClassMap, cam, gradcam
from lushan.explain.exact_arithmetic import Arithmetic, arithmetic
from lushan.explain.features import (
    ActiveChannel,
    feature_maps,
    pooling_switches,
    strongest_channels,
)
from lushan.explain.gradients import gradient_norms
from lushan.explain.inspection import Inspection
from lushan.explain.occlusions import Occlusion, occlusion
from lushan.explain.precision import compare_precision
from lushan.explain.projections import Projection, deconvnet, guided_backpropagation
from lushan.explain.receptive_fields import ReceptiveField, receptive_field
from lushan.explain.recipes import Recipe, recipe
from lushan.explain.residuals import ResidualBlock, residual_blocks
from lushan.explain.votes import Contributions, contributions

__all__ = [
    "ActivationStatistics",
    "ActiveChannel",
    "Arithmetic",
    "ClassMap",
    "Contributions",
    "Inspection",
    "Occlusion",
    "Projection",
    "ReceptiveField",
    "Recipe",
    "ResidualBlock",
    "activation_statistics",
    "arithmetic",
    "cam",
    "compare_precision",
    "contributions",
    "deconvnet",
    "feature_maps",
    "gradcam",
    "gradient_norms",
    "guided_backpropagation",
    "occlusion",
    "pooling_switches",
    "receptive_field",
    "recipe",
    "residual_blocks",
    "strongest_channels",
]
