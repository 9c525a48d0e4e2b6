"""Packages that are called like the function they are named after: `neuromoco.train(...)`, `neuromoco.export(...)`."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    _function: tuple[str, str]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        module, name = self._function
        return getattr(import_module(module), name)(*arguments, **options)


def make_callable(package: str, module: str) -> None:
    """Lets a package be called: the call is that of the function of the same name in a module.

    `import neuromoco.train.loop` binds the package `neuromoco.train` to the name that users call, so the package
    itself has to take the call. The module is imported when it is first called.
    """
    this: Any = sys.modules[package]
    this.__class__ = _CallablePackage
    this._function = (module, package.rpartition(".")[2])
