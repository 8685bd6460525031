"""The detector with GMBackbone: placement, freezing, one forward and backward at small size."""
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gmconv_mmdet import GMConv2d

CONFIG = (Path(__file__).resolve().parents[2] / 'configs' / 'gmbackbone' /
          'faster-rcnn_x50-32x4d-gm-stem-l1_fpn_1x_coco.py')


@pytest.mark.slow
def test_resnext50(tmp_path):
    Config.fromfile(CONFIG).dump(tmp_path / 'dumped.py')
    cfg = Config.fromfile(tmp_path / 'dumped.py')
    assert cfg.optim_wrapper.optimizer.lr == 0.02 and cfg.train_cfg.max_epochs == 12
    assert cfg.train_dataloader.batch_size == 2 and cfg.randomness.seed == 0
    assert cfg.model.backbone.init_cfg.checkpoint == 'torchvision://resnext50_32x4d'
    init_default_scope('mmdet')
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model).train()  # as built: nothing is downloaded
    backbone = detector.backbone
    masks = {name: layer for name, layer in backbone.named_modules() if isinstance(layer, GMConv2d)}
    assert set(masks) == {'conv1', *(f'layer1.{i}.conv2' for i in range(3))}
    assert masks['conv1'].dynamic and masks['layer1.0.conv2'].groups == 32
    data = detector.data_preprocessor(demo_mm_inputs(1, [[3, 64, 64]]), True)
    losses = detector(**data, mode='loss')
    sum(value.sum() for group in losses.values()
        for value in (group if isinstance(group, list) else [group])).backward()
    # frozen_stages=1 with plain weights: the masks learn, the weights don't
    assert backbone.layer1[0].conv2.sigma.grad is not None
    assert backbone.conv1.sigma_predictor.b1.grad is not None
    assert backbone.conv1.weight.grad is None and backbone.layer1[0].conv2.weight.grad is None
