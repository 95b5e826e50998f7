"""What is counted in an epoch; tests/commands/test_several_processes.py counts it by two processes."""

import torch

from weldnet.evaluation.metrics import measure_groups
from weldnet.model.confusion import Answers, ConfusionMatrix

ROWS = torch.tensor([[0, 0, 5], [1, 0, 5], [1, 1, 7], [0, 1, 5], [0, 0, 7]])
"""Predicted class, actual class and group of five images."""


def count(rows: torch.Tensor) -> tuple[Answers, ConfusionMatrix]:
    answers, confusion = Answers(), ConfusionMatrix(2)
    for batch in torch.split(rows, 2):
        answers.update(*batch.T)
        confusion.update(*batch.T[:2])
    return answers, confusion


def check(answers: Answers, confusion: ConfusionMatrix) -> None:
    found = answers.compute()
    assert sorted(found.tolist()) == sorted(ROWS.tolist())
    assert measure_groups(*found.numpy().T).tolist() == [0.25, 1.0]
    assert confusion.compute().tolist() == [[2, 1], [1, 1]]


def test_answers_are_kept_until_they_are_reset() -> None:
    answers, confusion = count(ROWS)
    check(answers, confusion)
    answers.reset()
    assert answers.answers == []
    assert not answers.state_dict(), "no checkpoint holds them"
