"""What a user can mend is said in a paragraph, with the exit code of its kind."""


def exit_code(error: BaseException) -> int | None:
    """1: training diverged, 2: a setting, 3: data or a checkpoint, 4: model or machine, 75: try
    later, 130: interrupted; None: a mistake of ours.
    """
    import torch

    from purified_opsd.errors import (
        CheckpointError,
        DataError,
        ModelError,
        RunError,
        ServersLost,
        SettingsError,
        TemplateError,
        WorkerError,
    )

    codes: dict[type[BaseException], int] = {
        FloatingPointError: 1,
        SettingsError: 2,
        RunError: 2,
        DataError: 3,
        CheckpointError: 3,
        ModelError: 4,
        ServersLost: 75,
        TemplateError: 4,
        WorkerError: 4,
        OSError: 4,
        torch.OutOfMemoryError: 4,
        KeyboardInterrupt: 130,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), None)


def paragraph(error: BaseException) -> str:
    """What went wrong, and what to do where the error itself does not say."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"{str(error).splitlines()[0]} Lower micro_batch_tokens, sampling.batch_size or chunk_rows: "
            "purified-opsd resume RUN --micro-batch-tokens 4096."
        )
    if isinstance(error, OSError):
        return f"{error}. Nothing written before is lost: mend it, then resume the run or repeat the evaluation."
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted. A run that had begun goes on, from its newest checkpoint, with `purified-opsd resume RUN`."
    return str(error)
