"""Packages that are called like the function they are named after: `neuromoco.train(...)`, `neuromoco.export(...)`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pkgutil import resolve_name
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    _place: str

    @property
    def _function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = resolve_name(self._place)
        return function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        """What `help(neuromoco.train)` shows: how the function is called."""
        name = self._function.__name__
        return f"{name}{self.__signature__}\n\n{inspect.getdoc(self._function)}"


def make_callable(package: str, module: str) -> None:
    """Makes a package callable: a call goes to the function of the same name in a module.

    `import neuromoco.train.loop` binds the package `neuromoco.train` to the name that users call, so the package
    itself has to take the call.

    Args:
        package: `__name__` of the package, "neuromoco.train".
        module: where the function is, imported when it is first used.
    """
    this = sys.modules[package]
    this.__class__ = _CallablePackage
    vars(this)["_place"] = f"{module}:{package.rpartition('.')[2]}"
