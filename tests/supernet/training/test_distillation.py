"""Distillation losses: known values, gradients, and what they leave out."""

import pytest
import torch
from torch.nn import functional as F

from nasbench.config import DistillationConfig
from nasbench.supernet.training.distillation import (
    adaptive_alpha_divergence,
    alpha_divergence,
    distillation_loss,
    feature_loss,
    soft_cross_entropy,
)
from nasbench.tasks.base import IGNORED


def logits(seed=0, rows=6, classes=5, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


LABELS = torch.zeros(6, dtype=torch.int64)


def gradient(loss, student):
    student = student.clone().requires_grad_()
    loss(student).backward()
    return student.grad


def test_soft_targets_teach_the_student_and_not_the_teacher():
    teacher, student = logits(0).requires_grad_(), logits(1).requires_grad_()
    soft_cross_entropy(student, teacher).backward()
    assert teacher.grad is None
    expected = student.softmax(1) - teacher.softmax(1)  # the gradient of KL(teacher || student)
    torch.testing.assert_close(student.grad, expected.detach())


def test_the_temperature_keeps_the_size_of_gradients():
    student, teacher = logits(0, scale=0.1), logits(1, scale=0.1)
    cold, hot = (
        gradient(
            lambda s, t=t: distillation_loss(s, teacher, LABELS, DistillationConfig(temperature=t)),
            student,
        )
        for t in (1.0, 8.0)
    )
    assert 0.8 < cold.norm() / hot.norm() < 1.25
    expected = 4.0 * (((student / 4).softmax(1)) - (teacher / 4).softmax(1))
    found = gradient(
        lambda s: distillation_loss(s, teacher, LABELS, DistillationConfig(temperature=4.0)),
        student,
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


class TestAlphaDivergence:
    def test_agrees_with_its_definition(self):
        student, teacher = logits(0, scale=0.3), logits(1, scale=0.3)
        p, q = teacher.softmax(1), student.softmax(1)
        for alpha in (-1.0, 0.5, 2.0):
            expected = (q * ((p / q) ** alpha - 1)).sum(1) / (alpha * (alpha - 1))
            torch.testing.assert_close(alpha_divergence(student, teacher, alpha), expected)

    def test_is_the_two_directions_of_kl_at_one_and_zero(self):
        student, teacher = logits(0, scale=0.3), logits(1, scale=0.3)
        p, q = teacher.softmax(1), student.softmax(1)
        forward, reverse = (p * (p / q).log()).sum(1), (q * (q / p).log()).sum(1)
        torch.testing.assert_close(alpha_divergence(student, teacher, 1), forward)
        torch.testing.assert_close(alpha_divergence(student, teacher, 0), reverse)
        near = alpha_divergence(student, teacher, 1 - 1e-6)
        torch.testing.assert_close(near, forward, atol=1e-5, rtol=1e-4)

    def test_is_zero_where_both_agree_and_nowhere_negative(self):
        same = logits(0)
        for alpha in (-1.0, 0.0, 0.5, 1.0):
            assert alpha_divergence(same, same, alpha).abs().max() < 1e-12
            assert (alpha_divergence(logits(1, scale=0.5), same / 4, alpha) > 0).all()

    def test_the_adaptive_loss_has_the_gradient_of_the_larger_one(self):
        student, teacher = logits(0, rows=40, scale=0.3), logits(1, rows=40, scale=0.3)
        lower, upper = (alpha_divergence(student, teacher, alpha) for alpha in (-1.0, 1.0))
        assert 0 < (upper > lower).sum() < 40
        expected = gradient(
            lambda s: torch.maximum(
                alpha_divergence(s, teacher, -1.0), alpha_divergence(s, teacher, 1.0)
            ).sum(),
            student,
        )
        found = gradient(lambda s: adaptive_alpha_divergence(s, teacher), student)
        torch.testing.assert_close(found, expected)

    def test_stays_finite_where_probabilities_round_to_zero(self):
        student = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
        teacher = torch.tensor([[-200.0, 200.0, 0.0]])
        loss = adaptive_alpha_divergence(student, teacher)
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", ["soft_targets", "alpha_divergence"])
class TestTargetsThatCount:
    def test_ignored_ones_add_nothing(self, name):
        config = DistillationConfig(loss=name)
        student, teacher = logits(0).view(2, 3, 5), logits(1).view(2, 3, 5)
        targets = torch.tensor([[1, 2, IGNORED], [0, IGNORED, IGNORED]])
        kept = targets.flatten() != IGNORED
        found = distillation_loss(student, teacher, targets, config)
        alone = distillation_loss(
            student.view(6, 5)[kept], teacher.view(6, 5)[kept], LABELS[:3], config
        )
        torch.testing.assert_close(found, alone)

    def test_is_a_sum_over_targets(self, name):
        config = DistillationConfig(loss=name)
        student, teacher = logits(0), logits(1)
        whole = distillation_loss(student, teacher, LABELS, config)
        halves = [
            distillation_loss(student[part], teacher[part], LABELS[part], config)
            for part in (slice(0, 2), slice(2, 6))
        ]
        torch.testing.assert_close(whole, sum(halves))

    def test_mixed_images_all_count(self, name):
        probabilities = F.one_hot(LABELS, 5).float()
        config = DistillationConfig(loss=name)
        found = distillation_loss(logits(0), logits(1), probabilities, config)
        torch.testing.assert_close(found, distillation_loss(logits(0), logits(1), LABELS, config))


class TestFeatures:
    def test_a_narrower_network_is_compared_with_the_leading_features(self):
        teacher = torch.arange(12.0).view(2, 6)
        assert feature_loss(teacher[:, :4], teacher, LABELS[:2]) == 0
        assert feature_loss(teacher[:, :4] + 2, teacher, LABELS[:2]) == 2 * 4

    def test_ignored_targets_add_nothing(self):
        student, teacher = torch.zeros(1, 3, 4), torch.ones(1, 3, 4)
        assert feature_loss(student, teacher, torch.tensor([[0, IGNORED, 5]])) == 2

    def test_no_gradient_reaches_the_teacher(self):
        student = torch.zeros(2, 4, requires_grad=True)
        teacher = torch.ones(2, 4, requires_grad=True)
        feature_loss(student, teacher, LABELS[:2]).backward()
        assert teacher.grad is None
        assert student.grad.abs().sum() > 0
