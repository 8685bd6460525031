"""Small detectors with trained-looking masks, as config and checkpoint files."""
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ..networks import difference, trained

CONFIG = '''
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', 'mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
metainfo = dict(classes=('person', ))
model = dict(
    backbone=dict(_delete_=True, {backbone}),
    neck=dict(in_channels={channels}, out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=16),
                  bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=1)),
    test_cfg=dict(rpn=dict(max_per_img=300), rcnn=dict(score_thr=0.0)))
test_dataloader = dict(
    batch_size=2, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', metainfo=metainfo, data_root='there/', ann_file='instances.json',
        data_prefix=dict(img='images/'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(160, 128), keep_ratio=True),
            dict(type='PackDetInputs',
                 meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
test_evaluator = dict(type='CocoMetric', ann_file='there/instances.json')
test_cfg = dict(type='TestLoop')
custom_hooks = [dict(type='FoldGMConvHook'), dict(type='SigmaLogHook')]
'''


def write_detector(folder, depth=18, init_cfg=None, **backbone):
    """Config and checkpoint of a Faster R-CNN with a narrow GMResNet or the ``backbone`` given by
    its ``type``, and the model itself."""
    if backbone.get('type', 'ResNet') == 'ResNet':
        backbone = dict(dict(type='GMResNet', depth=depth, base_channels=8), **backbone)
    if init_cfg:
        backbone['init_cfg'] = init_cfg
    channels = [8, 16, 32, 64] if depth in (18, 34) else [32, 64, 128, 256]
    config, checkpoint = folder / 'detector.py', folder / 'epoch_1.pth'
    config.write_text(CONFIG.format(channels=channels, backbone=', '.join(
        f'{key}={value!r}' for key, value in backbone.items())))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(config).model)
    trained(model)
    # A pyramid and heads whose outputs depend on the image.
    for module in [*model.neck.modules(), *model.rpn_head.modules(), *model.roi_head.modules()]:
        if hasattr(module, 'weight'):
            torch.nn.init.normal_(module.weight, std=0.1)
    torch.save(dict(state_dict=model.state_dict(),
                    meta=dict(epoch=1, dataset_meta=dict(classes=('person', )))), checkpoint)
    return config, checkpoint, model


def same_features(detector, reference, tolerance=1e-4):
    """Both see the same images alike, relative to the largest value of each feature map."""
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert difference(detector.extract_feat(images), reference.extract_feat(images)) <= tolerance
