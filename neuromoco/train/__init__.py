"""Training: `train(config, out)` makes a run folder, `resume(out)` goes on with one."""

from neuromoco.train.stages import best_weights, resume, train

__all__ = ["best_weights", "resume", "train"]
