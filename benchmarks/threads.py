"""Many callers on one recognizer, and more engine threads than cores.

Run: python benchmarks/threads.py [--model resnet18] [--seconds 60] [--callers 8] [--limit 1.5]

1. So many Python threads call one recognizer at once for a minute, each with batches of its own
   choice out of pictures whose scores are known. Any other bit is a wrong answer.
2. The time of one picture with twice as many engine threads as cores beside as many as cores, in
   turn. It should be at most ``--limit`` times as long.

Exit status 1 when either is violated.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np

from lushan.bench.disturbance import Disturbance
from lushan.bench.turns import take_turns
from lushan.cores import usable_cores
from lushan.models.zoo import Model, random_model
from lushan.recognizer import Recognizer

PICTURES = 16
LARGEST_BATCH = 6


@dataclass
class Tally:
    """What one caller saw."""

    answers: int = 0
    wrong: int = 0
    error: BaseException | None = None


def call(
    recognizer: Recognizer, pictures: np.ndarray, scores: np.ndarray, end: float, seed: int
) -> Tally:
    """Call until ``end``, and compare every bit."""
    random = np.random.default_rng(seed)
    tally = Tally()
    try:
        while time.perf_counter() < end:
            chosen = random.integers(0, len(pictures), random.integers(1, LARGEST_BATCH + 1))
            answer = recognizer.scores(pictures[chosen])
            tally.answers += 1
            tally.wrong += answer.tobytes() != scores[chosen].tobytes()
    except BaseException as error:
        tally.error = error
    return tally


def count_wrong(model: Model, callers: int, seconds: float) -> list[str]:
    """Return what went wrong with many callers, and say how many answers there were."""
    shape = (PICTURES, model.preprocessing.height, model.preprocessing.width, 3)
    pictures = np.random.default_rng(0).standard_normal(shape, np.float32)
    tallies: list[Tally] = []
    with Recognizer(model) as recognizer:
        scores = np.concatenate([recognizer.scores(picture[None]) for picture in pictures])
        end = time.perf_counter() + seconds

        def work(seed: int) -> None:
            tallies.append(call(recognizer, pictures, scores, end, seed))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    answers, wrong = (sum(getattr(t, name) for t in tallies) for name in ("answers", "wrong"))
    print(f"{callers} callers, {seconds:g} s, {model.name}: {answers} answers, {wrong} wrong")
    found = [f"{wrong} wrong answers"] if wrong else []
    found += [f"a caller ended with {t.error!r}" for t in tallies if t.error is not None]
    idle = [number for number, tally in enumerate(tallies) if not tally.answers]
    return found + ([f"callers {idle} got no answer"] if idle else [])


def oversubscribed(model: Model, runs: int) -> float:
    """Return how much longer a picture takes with twice as many threads as cores."""
    shape = (1, model.preprocessing.height, model.preprocessing.width, 3)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    cores = usable_cores()
    counts = (cores, 2 * cores)
    recognizers = {count: Recognizer(model, threads=count) for count in counts}
    disturbance = Disturbance()
    seconds = take_turns(
        {f"{n} threads": lambda r=r: r.scores(x) for n, r in recognizers.items()}, runs
    )
    for name, values in seconds.items():
        median, least = 1e3 * statistics.median(values), 1e3 * min(values)
        print(f"{name:<12} median {median:7.2f} ms   least {least:7.2f} ms")
    print(f"others kept {disturbance.cores() or 0:.2f} cores busy")
    for recognizer in recognizers.values():
        recognizer.close()
    few, many = (statistics.median(seconds[f"{count} threads"]) for count in counts)
    return many / few


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="an architecture")
    parser.add_argument("--seconds", type=float, default=60, help="of many callers; 0: none")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--runs", type=int, default=15, help="turns; 0: none")
    parser.add_argument("--limit", type=float, default=1.5)
    options = parser.parse_args()
    model = random_model(options.model, seed=0)
    failures = []
    if options.seconds:
        failures += count_wrong(model, options.callers, options.seconds)
    if options.runs:
        ratio = oversubscribed(model, options.runs)
        print(f"ratio {ratio:.2f}, at most {options.limit:g}")
        if ratio > options.limit:
            failures.append(f"twice as many threads as cores are {ratio:.2f} times as slow")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
