from __future__ import annotations

import pytest
import torch

from mmdet_atc.classification.metrics import mean_average_precision


def test_mean_average_precision_is_scikit_learns():
    metrics = pytest.importorskip('sklearn.metrics', reason='pip install -r requirements/tests.txt')
    scores = torch.randn(50, 7)
    targets = (torch.rand(50, 7) < 0.3).float()
    expected = metrics.average_precision_score(targets.numpy(), scores.numpy(), average='macro')
    assert mean_average_precision(scores, targets) == pytest.approx(100 * expected)


def test_classes_without_an_image_are_left_out():
    scores, targets = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[1.0, 0], [1, 0]])
    assert mean_average_precision(scores, targets) == pytest.approx(100)
