"""Time MONAI's `sliding_window_inference` with a traced network on one plane; print its seconds as JSON.

`monai_window.py NETWORK.pt CHANNELS HEIGHT WIDTH EDGE THREADS`: windows of EDGE x EDGE, a quarter of overlap, Gaussian.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from monai.inferers import sliding_window_inference

RUNS = 3


def main() -> None:
    channels, height, width, edge, threads = map(int, sys.argv[2:])
    torch.set_num_threads(threads)
    network = torch.jit.load(sys.argv[1]).eval()
    image = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    times = []
    with torch.inference_mode():
        for _ in range(RUNS + 1):
            began = time.perf_counter()
            found = sliding_window_inference(image, (edge, edge), 1, network, overlap=0.25, mode="gaussian")
            found.argmax(dim=1)
            times.append(time.perf_counter() - began)
    print(json.dumps({"seconds": sorted(times[1:])[RUNS // 2]}))


if __name__ == "__main__":
    main()
