"""Every refusal: what cannot be used, where, and what to do."""

import signal


class SettingsError(Exception):
    """A setting is wrong: which, what was got, and what to do."""


class TemplateError(Exception):
    """The tokenizer cannot render a prompt: what is missing and what to do."""


class DataError(Exception):
    """The data cannot be used: what is wrong, where, and what to do."""


class WorkerError(Exception):
    """No worker can be started: the installation is broken."""


class ModelError(Exception):
    """The model or tokenizer cannot be used: what is wrong, where, and what to do."""


class ServersLost(Exception):
    """No server answers, or not in time.  Another try, later, may go through."""


class RunError(Exception):
    """The run directory cannot be used: what is wrong, where, and what to do."""


class CheckpointError(Exception):
    """A checkpoint is damaged, or does not belong to this run: what, where, and what to do."""


class OffPolicyError(Exception):
    """The completions are not the student's: how far off they are, what that can be, and what to
    do.
    """


class Stopped(Exception):
    """The run has ended early, and is saved: why, and the exit code that says so."""

    def __init__(self, reason: str, exit_code: int):
        super().__init__(reason)
        self.exit_code = exit_code


class Interrupted(Stopped):
    """By a signal."""

    def __init__(self, signal_number: int, step: int):
        where = f"after step {step}, which is saved" if step else "before the first step"
        super().__init__(
            f"Stopped by {signal.Signals(signal_number).name} {where}.", 128 + signal_number
        )
