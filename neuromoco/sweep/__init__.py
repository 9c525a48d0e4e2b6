"""Sweeps: runs of one file for all combinations of settings, seeds and numbers of labels. `plan` needs no torch."""

from neuromoco.sweep.plan import Plan, SweepConfig, Unit, list_sweeps, load_sweep

__all__ = ["Plan", "SweepConfig", "Unit", "list_sweeps", "load_sweep"]
