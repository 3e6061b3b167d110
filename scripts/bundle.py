"""Make the model of a run one that ships with lushan: half the size, its accuracy counted anew.

Run: python scripts/bundle.py RUN NAME --evaluate DIR [--size 64]

RUN is a model folder that ``lushan train`` wrote, DIR has labelled pictures that it was not trained
on. The weights are stored as float16; what is counted on DIR are the answers of these, and they are
noted in ``config.json`` as "evaluation". ``--size`` is the side of the pictures that it recognises,
where that is not the side it was trained on. The model card, README.md beside it, is for people to
write.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import lushan
from lushan.evaluation import evaluate
from lushan.models.checkpoint import from_parameters
from lushan.models.model_folder import WEIGHTS, write_model_folder
from lushan.models.zoo import bundled_folder, load_model


def main() -> None:
    """Write the model folder, count its answers, and note the counts in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--evaluate", type=Path, required=True, metavar="DIR")
    parser.add_argument("--size", type=int)
    options = parser.parse_args()
    folder = bundled_folder(options.name)
    model = load_model(options.run)
    config = model.config
    if options.size:
        size = {"input_size": [3, options.size, options.size]}
        config = replace(config, pretrained_cfg={**config.pretrained_cfg, **size})
    tensors = from_parameters(model.weights)
    beside = ["README.md"]
    write_model_folder(folder, config, tensors, dtype="float16", beside=beside)
    with lushan.load(folder) as recognizer:
        found = evaluate(recognizer, options.evaluate)
    evaluation = {
        "data": options.evaluate.resolve().parent.name,
        "images": found.images,
        "top1": found.top1,
        "top5": found.top5,
    }
    config = replace(config, extra={**config.extra, "evaluation": evaluation})
    write_model_folder(folder, config, tensors, dtype="float16", beside=beside)
    print(f"{folder}: {(folder / WEIGHTS).stat().st_size:,} bytes")
    print(f"top-1 {found.top1} / {found.images}, top-5 {found.top5} / {found.images}")


if __name__ == "__main__":
    main()
