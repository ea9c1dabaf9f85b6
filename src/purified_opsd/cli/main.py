"""The application: its commands, their exit codes, and what is said of an error.

`--help`, `--version` and a mistyped command are answered from here, without a command's imports.
"""

import logging
import os
import select
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from signal import SIGPIPE

from cyclopts import App, CycloptsError, Parameter

from purified_opsd import __version__
from purified_opsd.errors import SettingsError, UserError, first_line
from purified_opsd.settings.names import did_you_mean

from .loading import loading

COMMANDS: Mapping[str, str] = {
    "quickstart": "Run the paper in miniature on two processor cores.",
    "recipes": "List the recipes, or print one as YAML.",
    "settings": "Say what can be set: types, defaults, meanings, sources.",
    "prepare": "Make a training set.",
    "plan": "Estimate a run's memory and time on GPUs.",
    "train": "Train a LoRA adapter.",
    "resume": "Go on with a run from its newest good checkpoint.",
    "sweep": "Train one run for every combination of several values.",
    "evaluate": "Measure the accuracy of a run's checkpoints, or of a model.",
    "compare": "Say what the difference of two evaluated runs is worth.",
    "regrade": "Grade the samples of an evaluation again.",
    "diagnose": "Measure what drives the teacher, as in Fig. 3.",
    "microscope": "Show what teacher and target want at every token.",
    "sample": "Read what the purified target itself would write.",
    "report": "Write one page of accuracy, markers, training, completions.",
    "export": "Merge a checkpoint's adapter into its base.",
    "serve": "Start a vLLM server that runs can draw from.",
}
"""Every command, in the order of use; each is a function of that name in a file of that name."""

FLAGS = ("--help", "-h", "--version")


def main() -> None:
    """Runs a command; what a user can mend is said in a paragraph, with an exit code."""
    logging.basicConfig(format="%(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    # transformers' newer name of this argument came after the oldest version that we allow
    warnings.filterwarnings("ignore", category=FutureWarning, message="`past_key_values`")
    words = sys.argv[1:]
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        launch = import_module("purified_opsd.cli.launch")
        launch.run_together(words)
    code = _run_alone(words)
    process_group = sys.modules.get("purified_opsd.distributed.process_group")
    if process_group:  # else there is nothing to take down, and after a signal an import may fail
        process_group.part(code)
    sys.exit(code)


def _run_alone(words: Sequence[str]) -> int:
    try:
        _load(words)
        code = run_command(words)
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            return 128 + SIGPIPE
        code = exit_code(error)
        if code is None:
            raise
        print(f"purified-opsd: {paragraph(error)}", file=sys.stderr)
        return code


def _output_is_closed() -> bool:
    """Has whoever read our output, such as `head`, seen enough?  If so, the rest goes nowhere."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed


def _load(words: Sequence[str]) -> None:
    """Imports the command.  Raises Stopped where a signal comes meanwhile."""
    if not words or words[0] not in COMMANDS:
        return
    with loading():
        import_module(f"purified_opsd.cli.{words[0]}")


def run_command(words: Sequence[str]) -> int:
    """Runs the command that the words name; returns its exit code.  Raises SettingsError for words
    that it does not take, and whatever the command raises.
    """
    words = _as_flags(words)
    name = words[0]
    if name not in COMMANDS and name not in FLAGS:
        nearest = did_you_mean(name, [*COMMANDS, *FLAGS])
        raise SettingsError(
            f"There is no command '{name}'.{nearest} `purified-opsd --help` lists them all."
        )
    try:
        return application(name)(words) or 0
    except CycloptsError as error:
        more = f" {name}" if name in COMMANDS else ""
        raise SettingsError(f"{error} `purified-opsd{more} --help` says what it takes.") from error


def _as_flags(words: Sequence[str]) -> Sequence[str]:
    """Returns `help train` as `train --help`, `-V` as `--version`, and no words as `--help`."""
    match words:
        case [] | ["help"]:
            return ["--help"]
        case ["help", command, *_]:
            return [command, "--help"]
        case ["-V" | "version", *_]:
            return ["--version"]
    return words


def application(command: str) -> App:
    """Returns the application, of which it imports this command alone."""
    app = App(
        name="purified-opsd",
        help="On-policy self-distillation for long chain-of-thought models, with the purified PMI "
        "target.",
        version=__version__,
        help_format="markdown",
        default_parameter=Parameter(negative=()),
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for index, (name, summary) in enumerate(COMMANDS.items()):
        app.command(
            f"purified_opsd.cli.{name}:{name}",
            name=name,
            help=None if name == command else summary,  # its own docstring says more
            sort_key=index,
        )
    return app


def exit_code(error: BaseException) -> int | None:
    """Returns 1 where training diverged, 4 where the machine failed, 130 for Ctrl-C, an error of
    ours its own code; None where we are mistaken ourselves.
    """
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, FloatingPointError):
        return 1
    if isinstance(error, OSError) or _is_out_of_memory(error):
        return 4
    return 130 if isinstance(error, KeyboardInterrupt) else None


def paragraph(error: BaseException) -> str:
    """Returns what went wrong, and what to do where the error itself does not say."""
    if _is_out_of_memory(error):
        return (
            f"{first_line(error)} Lower micro_batch_tokens, sampling.batch_size or "
            "chunk_rows: purified-opsd resume RUN --micro-batch-tokens 4096."
        )
    if isinstance(error, OSError):
        return (
            f"{error}. Nothing written before is lost: mend it, then resume the run or repeat the "
            "evaluation."
        )
    if isinstance(error, KeyboardInterrupt):
        return (
            "Interrupted. A run that had begun goes on, from its newest checkpoint, with "
            "`purified-opsd resume RUN`."
        )
    return str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # what was never imported has not run out of memory
    return torch is not None and isinstance(error, torch.OutOfMemoryError)
