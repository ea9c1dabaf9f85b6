"""How far an evaluation has come, for a progress bar or any other callback."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tqdm import tqdm


@dataclass(frozen=True)
class Progress:
    """Where an evaluation stands after another batch of samples."""

    candidate: str
    benchmark: str
    done: int
    """Samples of all candidates and benchmarks, those of earlier calls included."""
    total: int
    accuracy: float | None
    """The accuracy of this candidate on this benchmark so far; None before anything is graded."""
    tokens_per_second: float
    """The speed of this call."""


ProgressCallback = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """The callback that does nothing."""


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Yields a callback that shows samples done, time left, running accuracy and tokens a second
    in a bar.
    """
    with ExitStack() as open_bars:
        bars: list[tqdm] = []

        def show(progress: Progress) -> None:
            # The bar starts at the first report: samples of earlier calls took no time of this one.
            if not bars:
                bar = tqdm(total=progress.total, initial=progress.done, unit="sample")
                bars.append(open_bars.enter_context(bar))
            bar = bars[0]
            bar.set_description_str(f"{progress.candidate} on {progress.benchmark}", refresh=False)
            if progress.accuracy is not None:
                bar.set_postfix_str(
                    f"accuracy {progress.accuracy:.1%} · {progress.tokens_per_second:.0f} tokens/s",
                    refresh=False,
                )
            bar.update(progress.done - bar.n)

        yield show
