"""Handwritten digits for the simulated camera: small, free of downloads, and much like N-MNIST.

The digits are those of scikit-learn, 8 x 8 pixels each (Alpaydin and Kaynak 1998). The constants
below were fitted to recordings of N-MNIST: number of events, share of ON, events per pixel, size of
the digit in the field and rate of background events; `benchmarks/simulated_vs_real.py` compares.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.simulate import Saccades, SensorConfig

# The refractory time is the 1 % quantile of the intervals within a pixel of N-MNIST; the background
# is measured at the border of its field, where no digit ever comes.
DIGIT_SENSOR = SensorConfig(
    threshold_on=0.253,
    threshold_off=0.25,
    mismatch=0.15,
    refractory_us=1500,
    noise_hz=0.42,
    noise_on_share=0.89,
    eps=0.02,
    step_us=3000,
)
DIGIT_MOTION = Saccades(base=6.0, height=5.5, saccade_us=103_000)

# Side of an image, and the part of it that the 8 x 8 digit fills: wider than high, because most of
# scikit-learn's digits leave their outer columns empty.
_SIDE, _ROWS, _COLUMNS = 28, 20, 24
# Interpolated ink below the first is paper, above the second full ink: it keeps strokes thin.
_PAPER, _INK = 0.32, 0.95
# Share of the light that full ink takes away; it sets the number of events per edge.
_DEPTH = 0.825


def digit_images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The 1,797 digits of scikit-learn as the simulated camera is shown them.

    Each is scaled up with cubic splines, its strokes sharpened, and placed in the middle of a white
    square. Digits are dark on white: in N-MNIST it is the trailing edge of a moving stroke that gives
    the ON events, so there, too, the strokes are darker than their background.

    Returns:
        images: float32 [1797, 28, 28], intensity, 1 for white, 0.175 for full ink.
        labels: int64 [1797], 0 to 9.
    """
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    scale = (1, _ROWS / 8, _COLUMNS / 8)
    ink = zoom(digits.images / 16, scale, order=3, mode="grid-constant", grid_mode=True)
    ink = np.clip((ink - _PAPER) / (_INK - _PAPER), 0.0, 1.0)
    ink = ink * ink * (3 - 2 * ink)
    images = np.ones((len(ink), _SIDE, _SIDE), dtype=np.float32)
    top, left = (_SIDE - _ROWS) // 2, (_SIDE - _COLUMNS) // 2
    images[:, top : top + _ROWS, left : left + _COLUMNS] = 1 - _DEPTH * ink
    return images, digits.target.astype(np.int64)
