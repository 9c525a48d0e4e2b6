"""Training: `train(config, out)` writes a run folder, `resume(out)` continues an interrupted one."""

from neuromoco.checkpoint import best_weights
from neuromoco.support.callable_package import make_callable
from neuromoco.train.stages import resume, train

__all__ = ["best_weights", "resume", "train"]

make_callable(__name__, "neuromoco.train.stages")
