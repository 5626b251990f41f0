"""An image's detections do not depend on what else is in its batch."""

from __future__ import annotations

import pytest
import torch
from mmdet.apis import init_detector

from mmdet_atc.visualization import image_pipeline, load_batch

from .micro_runs import CONFIG


@pytest.mark.slow
def test_detections_of_an_image_alone_and_in_a_batch(data, trained):
    config = str(trained / CONFIG.rpartition('/')[2])  # as the run saved it, with the options
    model = init_detector(config, str(trained / 'epoch_2.pth'), device='cpu')
    model.test_cfg.rcnn.score_thr = 0.0
    batch = load_batch(image_pipeline(model.cfg), sorted((data / 'val2017').glob('*.png')))
    shape = batch['inputs'][0].shape
    same = [i for i, image in enumerate(batch['inputs']) if image.shape == shape]
    # Neighbours of one size: another padding is another picture for global attention.
    assert len(same) >= 2

    def detect(indices):
        with torch.no_grad():
            return model.test_step({key: [batch[key][i] for i in indices] for key in batch})

    together = detect(same)
    for index, expected in zip(same, together, strict=True):
        (alone,) = detect([index])
        found, wanted = alone.pred_instances, expected.pred_instances
        assert len(wanted) > 0
        assert torch.equal(found.labels, wanted.labels)
        torch.testing.assert_close(found.bboxes, wanted.bboxes, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-4, atol=1e-5)
