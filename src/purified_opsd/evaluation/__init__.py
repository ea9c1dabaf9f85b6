"""What a model can do, and what a difference is worth."""

from .agreement import WrongBox
from .benchmarks import AnswerColumns, Benchmark, Question, load_benchmark, located_benchmark
from .comparison import Arm, Comparison, compare_arms, newest_candidate
from .evaluate import evaluate, forget_other_weights
from .grading import CountdownGrader, Grade, Grader, MathGrader, grade
from .mixtures import refuse_namesakes
from .overlap import Overlap
from .plan import BASE, Candidate, Plan, draws_of
from .presets import CARDS, SamplingChoice
from .progress import Progress, Watch, progress_bar
from .regrade import regrade
from .results import Results, Score, read_results
from .table import comparison_table, table
from .workers import WorkerError

__all__ = [
    "BASE",
    "CARDS",
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
    "SamplingChoice",
    "Score",
    "Watch",
    "WorkerError",
    "WrongBox",
    "compare_arms",
    "comparison_table",
    "draws_of",
    "evaluate",
    "forget_other_weights",
    "grade",
    "load_benchmark",
    "located_benchmark",
    "newest_candidate",
    "progress_bar",
    "read_results",
    "refuse_namesakes",
    "regrade",
    "table",
]
