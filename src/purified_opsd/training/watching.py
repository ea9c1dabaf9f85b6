"""What is measured of a student on the way.  None of it changes the student."""

from dataclasses import dataclass

from purified_opsd.evaluation import AnswerColumns, Plan, SamplingChoice


@dataclass(frozen=True)
class Evaluation:
    """Benchmarks asked between steps, as `purified-opsd evaluate` asks them."""

    every: int = 0
    """Steps from one evaluation to the next; 0: never.  The base is evaluated too, before the first step, and so is the last."""
    benchmarks: tuple[str, ...] = ()
    """As `--benchmarks` takes them."""
    columns: AnswerColumns | None = None
    """Of benchmarks by path; null: problem, answer and id."""
    runs: int = 4
    """Completions of each problem."""
    limit: int | None = None
    """The first problems of each benchmark only."""
    seed: int = 0
    sampling: SamplingChoice = SamplingChoice()

    def __post_init__(self):
        if self.every < 0:
            raise ValueError(f"evaluation.every must be at least 0, got {self.every}. 0 is never.")
        if self.every and not self.benchmarks:
            raise ValueError(
                f"evaluation.every is {self.every}, and evaluation.benchmarks names none, such as [aime25]: nothing can be asked."
            )

    def due(self, step: int, last: int) -> bool:
        """Is the student evaluated after `step` of `last` steps?"""
        return self.every > 0 and (step % self.every == 0 or step == last)

    def plan(self, model: str) -> Plan:
        """What is asked of a model at that path.  Raises ValueError for what is impossible."""
        return Plan(self.sampling.of(model), self.runs, self.limit, self.seed)
