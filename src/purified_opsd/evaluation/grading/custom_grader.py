"""A grader of one's own, named by the Python path where it is found: `my_module:my_grader`."""

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pkgutil import resolve_name
from threading import Lock
from typing import Any

import numpy as np

from purified_opsd.errors import SettingsError

from .graders import Grade

_REMEDY = (
    "Write MODULE:NAME, such as my_module:my_grader, of a function (problem, gold, text) that "
    "returns True, False or a Grade, in a module that is installed or in the working directory."
)


@dataclass(frozen=True)
class CustomGrader:
    """Asks a function of the user's, one attempt at a time.  An error that it raises costs the
    attempt its grade, and nothing else.
    """

    path: str
    """Its Python path: `my_module:my_grader`."""
    function: Callable[[str, str, str], Any] = field(repr=False, compare=False)
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __call__(self, problem: str, gold: str, text: str) -> Grade:
        try:
            with self.lock:
                verdict = self.function(problem, gold, text)
        except Exception as error:  # whatever the user's code raises
            return Grade("ungraded", f"{type(error).__name__}: {error}"[:200])
        if isinstance(verdict, Grade):
            return verdict
        if isinstance(verdict, bool | np.bool):
            return Grade("correct" if verdict else "incorrect")
        return Grade("ungraded", f"the grader returned a {type(verdict).__name__}")


def load_grader(path: str) -> CustomGrader:
    """The grader at a Python path, `my_module:my_grader`.

    Modules of the working directory are found, after those that are installed.  Raises
    SettingsError where there is none, or it cannot be asked.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise SettingsError(f"The grader '{path}' is no Python path. {_REMEDY}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = resolve_name(path)
    except Exception as error:  # importing it may raise anything
        raise SettingsError(
            f"The grader {path} cannot be imported from {os.getcwd()} or what is installed "
            f"({type(error).__name__}: {error}). {_REMEDY}"
        ) from error
    _check_signature(path, function)
    return CustomGrader(path, function)


def _check_signature(path: str, function: Any) -> None:
    """Raises SettingsError where it is no function of problem, gold answer and text."""
    if isinstance(function, type):
        raise SettingsError(
            f"The grader {path} is a class. Name an instance of it: write `grader = "
            f"{function.__name__}()` in its module, and give {path.partition(':')[0]}:grader."
        )
    if not callable(function):
        raise SettingsError(
            f"The grader {path} is a {type(function).__name__} and cannot be called. {_REMEDY}"
        )
    try:
        inspect.signature(function).bind("problem", "gold", "text")
    except ValueError:  # a function in C may not say what it takes
        return
    except TypeError as error:
        raise SettingsError(
            f"The grader {path} does not take problem, gold and text, in this order: {error}. "
            f"{_REMEDY}"
        ) from error
