"""The command line: one verb a function.  What takes long to import is imported by the verb that needs it."""

import logging
import sys
import warnings

from . import beginning, measuring, preparing, reporting, running, sweeping
from .app import app
from .errors import exit_code, paragraph

__all__ = ["app", "beginning", "main", "measuring", "preparing", "reporting", "running", "sweeping"]


def main() -> None:
    """Runs a verb; what a user can mend is said in a paragraph, with the exit code of its kind."""
    logging.basicConfig(format="%(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    try:
        app()
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"purified-opsd: {paragraph(error)}", file=sys.stderr)
        sys.exit(code)
