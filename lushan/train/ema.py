"""An exponential moving average of the weights: often better than the last ones, and steadier.

    average = d * average + (1 - d) * weights          after each step

d is the smaller of the decay that was asked for and (1 + step) / (10 + step), so that the initial
weights do not linger in a short run (Tarvainen & Valpola 2017; the ramp is TensorFlow's). Running
statistics are averaged like weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lushan.graph.executor import Array


class MovingAverage:
    """The average of named parameters; ``arrays`` is it, a copy of the program's at first.

    To average costs a pass over all weights. With ``every`` above 1 that is done at each such step
    only, with the decay that so many steps have together.
    """

    def __init__(
        self, parameters: Mapping[str, Array], names: Iterable[str], decay: float, every: int = 1
    ) -> None:
        self.arrays = {name: np.array(parameters[name]) for name in names}
        self._decay = decay
        self._every = every

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take up an average that was kept."""
        for name, array in self.arrays.items():
            array[...] = arrays[name]

    def update(self, parameters: Mapping[str, Array], step: int) -> None:
        """Take in the parameters after ``step``, counted from 0."""
        if (step + 1) % self._every:
            return
        decay = min(self._decay, (1 + step) / (10 + step)) ** self._every
        for name, average in self.arrays.items():
            difference = parameters[name] - average
            difference *= np.float32(1 - decay)
            np.add(average, difference, out=average)
