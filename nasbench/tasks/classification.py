"""Classification: what is measured where each sample has one class.

Shape legend: B samples of a batch, K classes.
"""

from torch import nn

from nasbench.tasks.base import SplitName, Task, predictions, summed_cross_entropy

METRICS = ("top1_accuracy", "top1_error", "cross_entropy")


def evaluate_classifier(
    task: Task, model: nn.Module, split: SplitName, batch_size: int, num_samples: int | None = None
) -> dict[str, float]:
    """`METRICS` of a classifier in eval mode; the cross-entropy in nats per sample."""
    num_correct, total_loss, count = 0, 0.0, 0
    for batch, logits_BK in predictions(task, model, split, batch_size, num_samples):
        num_correct += int((logits_BK.argmax(dim=1) == batch.targets).sum())
        count += len(batch.targets)
        total_loss += float(summed_cross_entropy(logits_BK, batch.targets))
    accuracy = num_correct / count
    return {
        "top1_accuracy": accuracy,
        "top1_error": 1.0 - accuracy,
        "cross_entropy": total_loss / count,
    }
