import torch

from purified_opsd.objective.decomposition import alignment, decompose, norm_fraction
from purified_opsd.objective.targets import pmi_signal


def test_the_parts_add_up_to_the_total(logs):
    student, teacher, reference = logs(3)
    parts = decompose(student, teacher, reference)
    torch.testing.assert_close(parts.reference + parts.transferable, parts.total)  # Eq. 4
    torch.testing.assert_close(parts.transferable, pmi_signal(teacher, reference))


def test_a_probe_like_the_teacher_takes_all(logs):
    student, teacher = logs(2)
    parts = decompose(student, teacher, teacher)
    torch.testing.assert_close(
        alignment(parts.reference, parts.total), torch.ones(7, dtype=torch.float64)
    )
    torch.testing.assert_close(
        norm_fraction(parts.reference, parts.total), torch.ones(7, dtype=torch.float64)
    )
    assert norm_fraction(parts.transferable, parts.total).max() == 0


def test_a_student_like_the_probe_leaves_all_to_the_question(logs):
    teacher, reference = logs(2)
    parts = decompose(reference, teacher, reference)
    torch.testing.assert_close(
        alignment(parts.transferable, parts.total), torch.ones(7, dtype=torch.float64)
    )
    assert parts.reference.abs().max() == 0


def test_opposed_parts_have_cosine_minus_one():
    part, total = torch.tensor([[3.0, -4.0]]), torch.tensor([[-6.0, 8.0]])
    torch.testing.assert_close(alignment(part, total), torch.tensor([-1.0]))
    torch.testing.assert_close(norm_fraction(part, total), torch.tensor([0.5]))
