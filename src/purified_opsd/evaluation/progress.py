"""How far an evaluation has come, for a bar or for whoever asks."""

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
    """Of this candidate on this benchmark, so far; None at its beginning."""
    tokens_per_second: float
    """Of this call."""


Watch = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """For who does not want to know."""


@contextmanager
def progress_bar() -> Iterator[Watch]:
    """A bar with samples done, time left, running accuracy and tokens a second."""
    with ExitStack() as open_bars:
        bars: list[tqdm] = []

        def show(progress: Progress) -> None:
            if not bars:  # what earlier calls have drawn took no time of this one
                bars.append(
                    open_bars.enter_context(
                        tqdm(total=progress.total, initial=progress.done, unit="sample")
                    )
                )
            bar = bars[0]
            bar.set_description_str(f"{progress.candidate} on {progress.benchmark}", refresh=False)
            if progress.accuracy is not None:
                bar.set_postfix_str(
                    f"accuracy {progress.accuracy:.1%} · {progress.tokens_per_second:.0f} tokens/s",
                    refresh=False,
                )
            bar.update(progress.done - bar.n)

        yield show
