"""The command line: one verb a function.  What takes long to import is imported by the verb that
needs it.
"""

import logging
import os
import sys
import warnings

from . import beginning, looking, measuring, preparing, reporting, running, serving, sweeping
from .app import app
from .errors import exit_code, paragraph

__all__ = [
    "app",
    "beginning",
    "looking",
    "main",
    "measuring",
    "preparing",
    "reporting",
    "running",
    "serving",
    "sweeping",
]


def main() -> None:
    """Runs a verb; what a user can mend is said in a paragraph, with the exit code of its kind."""
    logging.basicConfig(format="%(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    warnings.filterwarnings(
        "ignore", category=FutureWarning, message="`past_key_values`"
    )  # the newer name is too new for some
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from .launch import run_together

        run_together(sys.argv[1:])
    code = 0
    try:
        app()
    except Exception as error:
        known = exit_code(error)
        if known is None:
            raise
        print(f"purified-opsd: {paragraph(error)}", file=sys.stderr)
        code = known
    except SystemExit as over:
        code = int(over.code or 0)
    processes = sys.modules.get("purified_opsd.distributed.process_group")
    if processes:  # else there is nothing to take down, and after a signal an import may fail
        processes.part(code)
    sys.exit(code)
