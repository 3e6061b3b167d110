"""How ``zip.pt`` and ``sequential.pt`` here were made, with torch 2.13 (not needed by the tests).

Every number follows from ``arange``, so that the test can compute what must be read.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import torch

base = torch.arange(24.0).reshape(4, 6)
weights = OrderedDict(
    plain=torch.arange(6.0).reshape(2, 3) / 8,
    parameter=torch.nn.Parameter(torch.arange(4.0)),
    window=base[1:3, 2:5],
    transposed=base.t(),
    half=torch.arange(5).half() / 4,
    bfloat16=torch.arange(5).bfloat16() * 3,
    double=torch.arange(3).double() / 7,
    long=torch.tensor(5),
    flags=torch.tensor([True, False]),
    empty=torch.empty(0, 3),
    channels_last=torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last),
)
weights["bn.num_batches_tracked"] = torch.tensor(7)
checkpoint = {
    "epoch": 3,
    "best": np.float64(71.25),
    "top1": np.float32(2.5),
    "milestones": Counter([30, 60]),
    "size": torch.Size([1, 2]),
    "bytes": b"abc\xff",
    "set": {1, 2},
    "big": 10**30,
    "history": [1.5, None, True, ("a", "b")],
    "optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    "state_dict": OrderedDict((f"module.{name}", tensor) for name, tensor in weights.items()),
}
folder = Path(__file__).parent
torch.save(checkpoint, folder / "zip.pt")
torch.save(checkpoint, folder / "sequential.pt", _use_new_zipfile_serialization=False)
model = torch.nn.Sequential(OrderedDict(fc=torch.nn.Linear(2, 3)))
torch.nn.init.constant_(model.fc.weight, 0.5)
torch.nn.init.constant_(model.fc.bias, -1.0)
for protocol in (2, 3, 4, 5):  # a whole state dict has an attribute, _metadata
    torch.save(model.state_dict(), folder / f"protocol{protocol}.pt", pickle_protocol=protocol)
