"""Batches of views compared with the training step that waits for them, and with recordings changed one by one.

python -m benchmarks.loading
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from benchmarks.timing import paired, report
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.encoders import build_encoder
from neuromoco.moco import MoCo
from neuromoco.recipes import load_recipe
from neuromoco.views import TwoViews, View

RECORDINGS = 512


def one_by_one(frames: np.ndarray, turn: float, most: float) -> tuple[Tensor, Tensor]:
    """The common way: each recording is turned by torchvision and thinned, twice, then all are stacked."""
    batches: tuple[list[Tensor], list[Tensor]] = ([], [])
    for recording in frames:
        for batch in batches:
            share, amount = torch.rand(2).tolist()
            one = torch.from_numpy(recording.astype(np.float32))  # [T, P, H, W]
            one = affine(one, amount * turn, [0, 0], 1.0, [0.0, 0.0], InterpolationMode.NEAREST)
            batch.append(torch.binomial(one, torch.full_like(one, 1.0 - share * most)))
    return torch.stack(batches[0], 1), torch.stack(batches[1], 1)


def main() -> None:
    """Prints both ratios, of the recipe `tiny`."""
    config = load_recipe("tiny")
    settings, size = config.pretrain.views, config.frames
    shape = (RECORDINGS, size.steps, 2, size.height, size.width)
    frames = np.random.default_rng(0).poisson(0.4, shape).astype(np.uint8)
    data = FrameSet(frames, range(RECORDINGS), view=TwoViews(View(settings)))
    chosen = np.random.default_rng(1).permutation(RECORDINGS)[: config.pretrain.batch_size].tolist()
    moco = MoCo(build_encoder(config.encoder), config.pretrain.moco, size.steps)
    views = data.__getitems__(chosen)

    def load() -> object:
        return data.__getitems__(chosen)

    def train() -> None:
        loss, keys = moco(*views)
        loss.total.backward()
        moco.update_key_encoder()
        moco.enqueue(keys)

    what = f"two views of {len(chosen)} recordings, tiny"
    report(what, "one by one", paired(load, lambda: one_by_one(frames[chosen], settings.rotate, settings.drop)))
    report(what, "training step", paired(load, train))


if __name__ == "__main__":
    main()
