"""Small results to build reports from."""

import torch

from lightning_adv.results.attack_row import AttackRow
from lightning_adv.results.examples import Examples


def examples(count: int = 3, channels: int = 1, size: int = 6) -> Examples:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(count, channels, size, size, generator=generator) * 0.5 + 0.25
    labels = torch.arange(count) % 2
    sure = torch.full((count,), 0.9)
    return Examples(clean, clean + 0.2 * (2 * labels - 1).view(-1, 1, 1, 1), labels, labels, 1 - labels, sure, sure / 2)


def attack(name: str, per_class_correct: list[int], eps: float = 0.2) -> AttackRow:
    correct = sum(per_class_correct)
    description = f"{name.upper()} Linf eps {eps}"
    return AttackRow(
        name=name,
        description=description,
        norm="Linf",
        eps=eps,
        samples=100,
        robust_correct=correct,
        success_rate=(90 - correct) / 90,
        mean_linf=eps,
        mean_l2=1.5,
        mean_l1=None,
        clean_confidence=0.93,
        adversarial_confidence=0.61,
        per_class_correct=per_class_correct,
    )
