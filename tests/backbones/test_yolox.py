"""A dynamic stem on raw pixels: mmdet's YOLOX-tiny, which does not normalise its images."""
import warnings
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from gmconv_mmdet.layers.find_layers import gm_layers


def yolox(**gm_cfg):
    config = Config.fromfile(Path(mmdet.__file__).parent /
                             '.mim/configs/yolox/yolox_tiny_8xb8-300e_coco.py').model
    config.backbone.update(type='GMBackbone', base='CSPDarknet', gm_cfg=gm_cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        model = MODELS.build(config)
    model.init_weights()
    return model.train()


def step(model, optimizer):
    """One step of SGD on two images of raw pixels with a box each."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (3, 96, 128), generator=generator, dtype=torch.uint8)
              for _ in range(2)]
    samples = []
    for _ in images:
        sample = DetDataSample(metainfo=dict(img_shape=(96, 128), pad_shape=(96, 128),
                                             batch_input_shape=(96, 128), scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[10., 20., 70., 80.]]),
                                           labels=torch.tensor([3]))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        samples.append(sample)
    model.data_preprocessor.batch_augments = None
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    optimizer.zero_grad()
    losses = model.loss(data['inputs'], data['data_samples'])
    sum(value.sum() for value in losses.values()).backward()
    optimizer.step()
    stem = next(layer for layer in gm_layers(model.backbone).values() if layer.dynamic)
    x = data['inputs']
    x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
    with torch.no_grad():
        return stem.eval().sigma_predictor(x)


def test_input_scale_keeps_the_masks_of_raw_pixels():
    model = yolox(input_scale=60)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='the input of a dynamic GMConv')
        for _ in range(3):
            sigmas = step(model, optimizer)
    assert torch.isfinite(sigmas).all() and sigmas.abs().max() < 10 and sigmas.abs().min() > 1


def test_raw_pixels_are_warned_of():
    model = yolox()
    with pytest.warns(UserWarning, match=r'far from normalised.*gm_cfg=dict\(input_scale=6'):
        step(model, torch.optim.SGD(model.parameters(), lr=0.01))
