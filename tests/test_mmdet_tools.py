"""Real COCO images through mmdet's own tools, each a fresh process in a folder that isn't ours."""
import json
import re
import signal

import pytest

from gmconv_mmdet.checkpoints import read_checkpoint

from .processes import REPO, finished, mmdet_tool, wait_for

CONFIG = REPO / 'configs' / 'gmconv' / 'faster-rcnn_r50-gm-stem-l1-l4_fpn_1x_coco.py'

# What a user's own config would say: our config, another data set, fewer and smaller images.
COCO128_CONFIG = '''
_base_ = {base!r}
data_root = {data_root!r}
model = dict(
    backbone=dict(init_cfg=None, frozen_stages=-1, norm_eval=False),
    # so briefly trained, no class is likely: keep the boxes all the same
    test_cfg=dict(rpn=dict(max_per_img=50), rcnn=dict(score_thr=0.0, max_per_img=20)))
resize = dict(type='Resize', scale=(160, 128), keep_ratio=True)
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                  resize, dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), resize,
                 dict(type='LoadAnnotations', with_bbox=True),
                 dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape',
                                                       'scale_factor'))]
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root=data_root, ann_file='annotations/instances_train.json',
    data_prefix=dict(img='images/'), pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root=data_root, ann_file='annotations/instances_val.json',
    data_prefix=dict(img='images/'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={iters}, val_interval=10**6)
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2), logger=dict(interval=1))
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
'''


@pytest.mark.slow
def test_coco128_train_kill_resume_evaluate(shared_data, tmp_path):
    """GMResNet-50 Faster R-CNN: killed in training, resumed from its checkpoint, evaluated by
    pycocotools on real annotations."""
    config = tmp_path / 'my config.py'  # a user's folder may hold spaces
    config.write_text(COCO128_CONFIG.format(base=str(CONFIG), iters=6,
                                            data_root=f'{shared_data / "coco128"}/'))
    work_dir = tmp_path / 'work'
    killed = mmdet_tool('train.py', config, '--work-dir', work_dir, cwd=tmp_path)
    wait_for(work_dir / 'last_checkpoint', killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (work_dir / 'iter_6.pth').exists()

    output = finished(mmdet_tool('train.py', config, '--work-dir', work_dir, '--resume',
                                 cwd=tmp_path))
    resumed_at = int(re.search(r'resumed epoch: 0, iter: (\d+)', output)[1])
    assert resumed_at >= 2 and resumed_at % 2 == 0
    steps = [int(step) for step in re.findall(r'Iter\(train\) \[ *(\d+)/6\]', output)]
    assert steps == list(range(resumed_at + 1, 7))

    checkpoint = read_checkpoint(work_dir / 'iter_6.pth')
    sigmas = {key: value for key, value in checkpoint['state_dict'].items()
              if key.endswith('.sigma')}
    assert len(sigmas) == 16 and all((value != 5).all() for value in sigmas.values())
    losses = checkpoint['message_hub']['log_scalars']['train/loss']
    assert len(losses.data[0]) == 6  # the history goes on from before the kill

    output = finished(mmdet_tool('test.py', config, work_dir / 'iter_6.pth', '--work-dir',
                                 tmp_path / 'test', cwd=tmp_path))
    result, = (tmp_path / 'test').glob('*/*.json')
    metrics = json.loads(result.read_text())
    assert {'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75', 'coco/bbox_mAP_s',
            'coco/bbox_mAP_m', 'coco/bbox_mAP_l'} <= set(metrics)
    assert all(0 <= metrics[f'coco/bbox_mAP{kind}'] <= 1 for kind in ('', '_50', '_75'))
    assert 'Average Precision' in output


@pytest.mark.nightly
def test_overfits_16_real_images(shared_data, tmp_path):
    """A small GM detector, from scratch, learns 16 real images by heart."""
    coco = json.loads((shared_data / 'coco128/annotations/instances_train.json').read_text())
    coco['images'] = coco['images'][:16]
    kept = {image['id'] for image in coco['images']}
    coco['annotations'] = [a for a in coco['annotations'] if a['image_id'] in kept]
    (tmp_path / 'sixteen.json').write_text(json.dumps(coco))
    demo = REPO / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'
    config = tmp_path / 'overfit.py'
    config.write_text(f'''
_base_ = {str(demo)!r}
data = dict(ann_file={str(tmp_path / 'sixteen.json')!r},
            data_prefix=dict(img={str(shared_data / 'coco128/images')!r}))
classes = dict(_delete_=True, classes={tuple(c['name'] for c in coco['categories'])!r})
model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='Resize', scale=(192, 192), keep_ratio=True),
                  dict(type='PackDetInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                 dict(type='Resize', scale=(192, 192), keep_ratio=True),
                 dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape',
                                                       'scale_factor'))]
# MMEngine sleeps two seconds whenever an iteration-based loop starts a finite sampler again.
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                        sampler=dict(_delete_=True, type='InfiniteSampler'), dataset=dict(
    data_root='', metainfo=classes, pipeline=train_pipeline, **data))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root='', metainfo=classes, pipeline=test_pipeline, **data))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data['ann_file'])
test_evaluator = val_evaluator
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=160, val_interval=160)
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=160), logger=dict(interval=20))
log_processor = dict(by_epoch=False)
''')
    output = finished(mmdet_tool('train.py', config, '--work-dir', tmp_path / 'work', cwd=tmp_path))
    ap50 = float(re.findall(r'coco/bbox_mAP_50: ([\d.]+)', output)[-1])
    print(f'AP50 on the 16 training images: {ap50:.3f}')
    assert ap50 > 0.2
