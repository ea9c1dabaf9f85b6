"""The paper's mathematics: what the student is pulled to, how hard, and why.  torch only."""

from .averaging import Averaging, SequenceMean, TokenMean
from .decomposition import Decomposition, alignment, decompose, likeliest, norm_fraction, probability_weighted
from .divergences import JSD, Divergence, ForwardKL, ReverseKL, kl
from .kernels import Compiled, Eager, Kernels
from .streamed import Terms, streamed_loss, streamed_terms
from .targets import PMITarget, Target, TeacherTarget, center, pmi_signal, soft_clip, tilt

__all__ = [
    "JSD",
    "Averaging",
    "Compiled",
    "Decomposition",
    "Divergence",
    "Eager",
    "ForwardKL",
    "Kernels",
    "PMITarget",
    "ReverseKL",
    "SequenceMean",
    "Target",
    "TeacherTarget",
    "Terms",
    "TokenMean",
    "alignment",
    "center",
    "decompose",
    "kl",
    "likeliest",
    "norm_fraction",
    "pmi_signal",
    "probability_weighted",
    "soft_clip",
    "streamed_loss",
    "streamed_terms",
    "tilt",
]
