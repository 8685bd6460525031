"""A GMConv detector trained in half precision: every loss and every parameter stays finite."""
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

from gmconv_mmdet import GMConv2d
from gmconv_mmdet.lab.demo.shapes import CLASSES, make_shapes

ITERATIONS = 200
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_shape', 'ori_shape', 'scale_factor')),
]
# A one-stage detector: mmcv's RoIAlign knows no bfloat16 on a CPU.
DETECTOR = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[128.] * 3, std=[64.] * 3,
                           pad_size_divisor=32),
    backbone=dict(type='GMResNet', depth=18, base_channels=8, norm_eval=False),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5, start_level=1,
              add_extra_convs='on_input'),
    bbox_head=dict(
        type='RetinaHead', num_classes=len(CLASSES), in_channels=16, feat_channels=16,
        stacked_convs=1,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1,
                              ratios=[1.0], strides=[8, 16, 32, 64, 128])),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4,
                                 min_pos_iou=0),
                   sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1),
    test_cfg=dict())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'),
                    reason='a GradScaler for a CPU is new in torch 2.3')
@pytest.mark.parametrize('dtype', [
    torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.nightly)])
def test_training_stays_finite(tmp_path, dtype):
    make_shapes(tmp_path / 'shapes', 16, 1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(dict(
            type='CocoDataset', data_root=str(tmp_path / 'shapes'), metainfo=dict(classes=CLASSES),
            ann_file='annotations/instances_train.json', data_prefix=dict(img='train/'),
            pipeline=PIPELINE))
        torch.manual_seed(0)
        model = MODELS.build(ConfigDict(DETECTOR))
    batches = [pseudo_collate([dataset[i], dataset[i + 1]]) for i in range(0, 16, 2)]
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    # As MMEngine's AmpOptimWrapper, which asks for a GPU.
    scaler = torch.amp.GradScaler('cpu', init_scale=2.**10, enabled=dtype == torch.float16)
    history = []
    for i in range(ITERATIONS):
        data = model.data_preprocessor(batches[i % len(batches)], True)
        with torch.autocast('cpu', dtype=dtype):
            assert model.backbone.conv1(data['inputs']).dtype == dtype
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        assert torch.isfinite(loss), i
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        scaler.step(optimizer)
        scaler.update()
        history.append(loss.item())
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert sum(history[-20:]) < 0.8 * sum(history[:20])
    masks = [layer for layer in model.modules() if isinstance(layer, GMConv2d) and layer.kernel_size
             != (1, 1)]
    assert len(masks) == 17 and not any(layer.mask_is_initial() for layer in masks)
