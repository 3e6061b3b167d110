"""Fine-tuning against training from scratch, on a few pictures of classes new to the model.

Run: python examples/fine_tuning.py MODEL PICTURES OUTPUT [--test PICTURES] [--classes NAME …]

MODEL is what any command takes as --model; PICTURES has a folder of pictures per class. Some are
chosen to train on, others to test on; the same network is trained three times: from MODEL's
weights, from random ones for as many epochs, and from random ones for three times as many.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lushan.errors import LushanError
from lushan.image.files import find_pictures
from lushan.models.zoo import CUSTOM, Model, load_model
from lushan.train.dataset import open_image_folder
from lushan.train.trainer import train


def choose(classes: Sequence[str], options: argparse.Namespace, root: Path) -> None:
    """Copy pictures of ``classes`` to ``root/train`` and ``root/val``, none to both."""
    random = np.random.default_rng(options.seed)
    for name in classes:
        pictures = random.permutation(list(map(str, find_pictures(options.pictures / name))))
        train, rest = pictures[: options.train_each], pictures[options.train_each :]
        if options.test is not None:
            rest = random.permutation(list(map(str, find_pictures(options.test / name))))
        val = rest[: options.test_each]
        if (len(train), len(val)) != (options.train_each, options.test_each):
            raise SystemExit(f"{name}: too few pictures: {len(train)} and {len(val)} to test on")
        for part, paths in (("train", train), ("val", val)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for place, path in enumerate(map(Path, paths)):
                shutil.copyfile(path, folder / f"{place:04}-{path.name}")


def refuse_known(classes: Sequence[str], model: Model) -> None:
    """Stop where the model has seen a class already: that would show nothing."""
    labels = model.labels
    known = set(labels.names) | {
        word.strip().casefold()
        for index in range(len(labels))
        for word in labels.description(index, "en").split(",")
    }
    seen = [name for name in classes if name.casefold() in known]
    if seen:
        raise SystemExit(f"{model.name} knows these already: {', '.join(seen)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("model", help="to start from")
    parser.add_argument("pictures", type=Path, help="a folder of pictures per class")
    parser.add_argument("output", type=Path, help="a new folder, for the pictures and the runs")
    parser.add_argument("--test", type=Path, help="where to take the test pictures from")
    parser.add_argument("--classes", nargs="+", help="some of the folders; all if not given")
    parser.add_argument("--train-each", type=int, default=100, help="pictures of a class")
    parser.add_argument("--test-each", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--freeze", nargs="*", default=["conv1", "bn1", "layer1"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        compare(options)
    except LushanError as error:
        raise SystemExit(str(error)) from None


def compare(options: argparse.Namespace) -> None:
    """Train three times, and print what came out."""
    model = load_model(options.model)
    classes = options.classes or open_image_folder(options.pictures).classes
    refuse_known(classes, model)
    root = options.output / "pictures"
    choose(classes, options, root)
    common: dict[str, Any] = {
        "batch": options.batch,
        "seed": options.seed,
        "keep": "last",  # the best on the test pictures would flatter
    }
    network, preprocessing = model.network.to_dict(), model.preprocessing.to_pretrained_cfg()
    scratch = {
        "model": CUSTOM,
        "model_args": {key: network[key] for key in network if key != "classes"},
        "size": model.preprocessing.height,
        "preprocessing": {k: v for k, v in preprocessing.items() if k != "input_size"},
    }
    runs = {
        "fine-tuned": {"init": options.model, "freeze": options.freeze, "epochs": options.epochs},
        "from scratch": {**scratch, "epochs": options.epochs},
        "from scratch, 3 times as long": {**scratch, "epochs": 3 * options.epochs},
    }
    for name, given in runs.items():
        began = time.perf_counter()
        output = options.output / name.replace(", ", "-").replace(" ", "-")
        found = train(root, output, {**common, **given}).validation
        print(
            f"{name}: {found.top1} of {found.images} right ({found.top1 / found.images:.1%}), "
            f"{given['epochs']} epochs in {time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
