"""What a model can do, and what a difference is worth."""

from .benchmarks import AnswerColumns, Benchmark, Question, load_benchmark
from .evaluate import evaluate
from .grading import CountdownGrader, Grade, Grader, MathGrader, grade
from .plan import Candidate, Plan
from .progress import Progress, Watch, progress_bar
from .results import Results, Score, read_results

__all__ = [
    "AnswerColumns",
    "Benchmark",
    "Candidate",
    "CountdownGrader",
    "Grade",
    "Grader",
    "MathGrader",
    "Plan",
    "Progress",
    "Question",
    "Results",
    "Score",
    "Watch",
    "evaluate",
    "grade",
    "load_benchmark",
    "progress_bar",
    "read_results",
]
