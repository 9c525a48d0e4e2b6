"""Exporters: a trained classifier leaves torch through this package; `targets` lists where it can go."""

from neuromoco.support.callable_package import make_callable

make_callable(__name__, "neuromoco.export.targets")
