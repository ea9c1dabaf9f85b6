"""Every refusal: what cannot be used, where, and what to do."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What a user can mend.  Its text is a paragraph, and the command line ends with its code."""

    exit_code: int = 1


def first_line(error: BaseException) -> str:
    """Returns the first line of what a library's error says; of some that is nothing."""
    text = str(error).strip()
    return text.partition("\n")[0].rstrip()


class SettingsError(UserError):
    """A setting is wrong: which, what was got, and what to do."""

    exit_code = 2


@contextmanager
def refused_as_settings() -> Iterator[None]:
    """Turns the ValueError with which a settings class refuses a value into a SettingsError."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(str(error)) from error


class RunError(UserError):
    """The run directory cannot be used: what is wrong, where, and what to do."""

    exit_code = 2


class DataError(UserError):
    """The data cannot be used: what is wrong, where, and what to do."""

    exit_code = 3


class CheckpointError(UserError):
    """A checkpoint is damaged, or does not belong to this run: what, where, and what to do."""

    exit_code = 3


class ModelError(UserError):
    """The model or tokenizer cannot be used: what is wrong, where, and what to do."""

    exit_code = 4


class TemplateError(UserError):
    """The tokenizer cannot render a prompt: what is missing and what to do."""

    exit_code = 4


class WorkerError(UserError):
    """No worker can be started: the installation is broken."""

    exit_code = 4


class OffPolicyError(UserError):
    """The completions are not the student's: how far off they are, what that can be, and what to
    do.
    """

    exit_code = 4


class ServersLost(UserError):
    """No server answers, or not in time.  Another try, later, may go through."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class Stopped(UserError):
    """The run has ended early, and is saved: why, and the exit code that says so."""

    def __init__(self, reason: str, exit_code: int):
        super().__init__(reason)
        self.exit_code = exit_code


class Interrupted(Stopped):
    """A signal has ended the run early, and it is saved."""

    def __init__(self, signal_number: int, step: int):
        where = f"after step {step}, which is saved" if step else "before the first step"
        super().__init__(
            f"Stopped by {signal.Signals(signal_number).name} {where}.", 128 + signal_number
        )
