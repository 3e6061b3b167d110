"""float32 against int8, layer by layer, on one picture."""

from __future__ import annotations

from lushan.errors import UsageError
from lushan.explain.inspection import Inspection
from lushan.models.zoo import Model
from lushan.quantization.comparison import Comparison, compare_batches


def compare_precision(inspection: Inspection, quantized: Model) -> Comparison:
    """Compare the inspected network with the int8 model that was made from it.

    Raises UsageError for a model that is not int8, or of another network.
    """
    model = inspection.model
    if quantized.precision != "int8":
        raise UsageError(
            "{model} computes on {received}, not on int8: lushan quantize makes an int8 model",
            model=quantized.name,
            received=quantized.precision,
        )
    if quantized.network != model.network:
        raise UsageError(
            "{quantized} is not the int8 model of {model}: their networks differ",
            quantized=quantized.name,
            model=model.name,
        )
    recognizer = inspection.recognizer
    return compare_batches(
        model, quantized, [inspection.input], threads=recognizer.threads, engine=recognizer.engine
    )
