"""What a model can do, and what a difference is worth."""

from .agreement import WrongBox
from .benchmarks import AnswerColumns, Benchmark, Question, load_benchmark
from .comparison import Arm, Comparison, compare_arms, newest_candidate
from .evaluate import evaluate
from .grading import CountdownGrader, Grade, Grader, MathGrader, grade
from .overlap import Overlap
from .plan import Candidate, Plan
from .progress import Progress, Watch, progress_bar
from .regrade import regrade
from .results import Results, Score, read_results
from .table import comparison_table, table
from .workers import WorkerError

__all__ = [
    "AnswerColumns",
    "Arm",
    "Benchmark",
    "Candidate",
    "Comparison",
    "CountdownGrader",
    "Grade",
    "Grader",
    "MathGrader",
    "Overlap",
    "Plan",
    "Progress",
    "Question",
    "Results",
    "Score",
    "Watch",
    "WorkerError",
    "WrongBox",
    "compare_arms",
    "comparison_table",
    "evaluate",
    "grade",
    "load_benchmark",
    "newest_candidate",
    "progress_bar",
    "read_results",
    "regrade",
    "table",
]
