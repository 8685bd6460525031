"""Configs for data sets of one's own: what they say, and what they refuse."""
from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from gmconv_mmdet.own_data.advice import advise_anchors, advise_epochs, advise_scale
from gmconv_mmdet.own_data.coco_files import OwnDataError, read_set, split_set
from gmconv_mmdet.own_data.config_text import literal
from gmconv_mmdet.own_data.own_config import Options
from gmconv_mmdet.own_data.write import write_own_config
from tests.own_data.small_set import write_set

FASTER = 'configs/gmconv/faster-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'
CASCADE = 'configs/gmconv/cascade-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'
SCRATCH = Options(from_scratch=True)


def written(tmp_path, base=FASTER, options=SCRATCH, **data):
    """The config for a small set, read again, and what was written."""
    train = write_set(tmp_path / 'train', **data)
    val = write_set(tmp_path / 'val', **data)
    result = write_own_config(train, val, base, tmp_path / 'my config.py', options)
    return Config.fromfile(result.config), result


@pytest.mark.slow
@pytest.mark.parametrize('base', [
    FASTER, CASCADE, 'configs/gmconv/retinanet_r50-gm-stem-l1_fpn_1x_coco.py',
    'configs/gmconv/fcos_r50-gm-stem-l1_fpn_gn-head_1x_coco.py',
    'configs/gmbackbone/faster-rcnn_x50-32x4d-gm-stem-l1_fpn_1x_coco.py',
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    *(pytest.param(name, marks=pytest.mark.nightly) for name in (
        'mmdet::atss/atss_r50_fpn_1x_coco.py', 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py')),
    'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712-cocofmt.py',
])
def test_every_head_and_dataset_knows_the_classes(tmp_path, base):
    try:
        cfg, result = written(tmp_path, base)
    except OwnDataError as error:
        assert 'not one data set with an ann_file' in str(error) and 'pascal_voc' in base
        return

    def numbers(node):
        if isinstance(node, dict):
            yield from (v for k, v in node.items() if k == 'num_classes')
            node = list(node.values())
        if isinstance(node, (list, tuple)):
            for child in node:
                yield from numbers(child)

    found = list(numbers(cfg.model))
    assert found and set(found) == {2}
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        assert dataset.type == 'CocoDataset' and dataset.metainfo == dict(classes=('ore', 'gem'))
        assert dataset.ann_file.endswith(f'{"train" if split == "train" else "val"}/coco.json')
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == cfg.val_annotations
    assert 'gmconv_mmdet' in cfg.custom_imports.imports
    assert 'head' not in cfg and 'step' not in cfg  # no loop variable becomes a setting


@pytest.mark.slow
def test_masks_have_no_weight_decay_unless_the_base_says_so(tmp_path):
    none = dict(sigma=dict(decay_mult=0))
    assert written(tmp_path)[0].optim_wrapper.paramwise_cfg.custom_keys == none
    plain, _ = written(tmp_path / 'a', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    assert 'paramwise_cfg' not in plain.optim_wrapper
    base = tmp_path / 'base.py'
    base.write_text("""
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
model = dict(backbone=dict(type='GMBackbone', base='ResNet'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
""")
    own, _ = written(tmp_path / 'b', str(base))
    assert own.optim_wrapper.paramwise_cfg.custom_keys == dict(backbone=dict(lr_mult=0.1))


def test_from_scratch_freezes_nothing(tmp_path):
    backbone = written(tmp_path)[0].model.backbone
    assert (backbone.init_cfg, backbone.frozen_stages, backbone.norm_eval) == (None, -1, False)


@pytest.mark.slow
def test_from_scratch_inside_a_gm_backbone(tmp_path):
    outer = written(tmp_path, 'configs/gmbackbone/faster-rcnn_x50-32x4d-gm-stem-l1_fpn_1x_coco.py'
                    )[0].model.backbone
    assert outer.init_cfg is None and outer.backbone.init_cfg is None
    assert outer.backbone.frozen_stages == -1 and outer.backbone.norm_eval is False


def test_from_scratch_with_a_drop_in(tmp_path):
    base = tmp_path / 'drop_in.py'
    base.write_text("""
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)
model = dict(backbone=dict(type='GMBackbone', base='ResNet'))
""")
    backbone = written(tmp_path, str(base))[0].model.backbone
    assert backbone.base == 'ResNet' and backbone.init_cfg is None
    assert backbone.frozen_stages == -1 and backbone.norm_eval is False


def test_caffe_batch_norm_learns_from_scratch(tmp_path):
    backbone = written(tmp_path, 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py')[0].model.backbone
    assert backbone.norm_cfg.requires_grad is True


@pytest.mark.slow
def test_start_weights(tmp_path):
    torch.save(dict(state_dict={'conv1.weight': torch.zeros(1)}), tmp_path / 'backbone.pth')
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(1),
                                'neck.conv.weight': torch.zeros(1)}), tmp_path / 'detector.pth')
    cfg, result = written(tmp_path / 'a', options=Options(pretrained=f'{tmp_path}/backbone.pth'))
    assert cfg.model.backbone.init_cfg == dict(type='GMPretrained',
                                               checkpoint=f'{tmp_path}/backbone.pth')
    assert cfg.load_from is None and not result.remarks
    cfg, _ = written(tmp_path / 'b', options=Options(pretrained=f'{tmp_path}/detector.pth'))
    assert cfg.load_from == cfg.model.backbone.init_cfg.checkpoint == f'{tmp_path}/detector.pth'
    with pytest.raises(OwnDataError, match='no file .*nothing.pth'):
        written(tmp_path / 'c', options=Options(pretrained=f'{tmp_path}/nothing.pth'))
    with pytest.raises(ValueError, match='torchvision knows no \'resnet5\''):
        written(tmp_path / 'd', options=Options(pretrained='torchvision://resnet5'))


@pytest.mark.slow
def test_start_weights_that_are_still_to_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.delenv('GMCONV_PRETRAINED', raising=False)
    _, result = written(tmp_path, options=Options())
    remark, = (remark for remark in result.remarks if 'Without internet' in remark)
    assert 'resnet50-0676ba61.pth' in remark and '--pretrained FILE' in remark


@pytest.mark.slow
def test_small_objects_get_small_anchors_and_fine_levels(tmp_path):
    cfg, _ = written(tmp_path, box=(1.5, 1.5))
    assert cfg.model.rpn_head.anchor_generator.scales == [4]
    assert cfg.model.roi_head.bbox_roi_extractor.finest_scale == 28
    cfg, _ = written(tmp_path / 'retina', 'configs/gmconv/retinanet_r50-gm-stem-l1_fpn_1x_coco.py',
                     box=(1.5, 1.5))
    assert cfg.model.bbox_head.anchor_generator.octave_base_scale == 2


@pytest.mark.slow
def test_large_objects_get_smaller_images_in_training_and_test(tmp_path):
    cfg, _ = written(tmp_path, box=(50, 40))
    scales = {step.scale for split in ('train', 'val', 'test')
              for step in cfg[f'{split}_dataloader'].dataset.pipeline if step.type == 'Resize'}
    assert scales == {(672, 416)} == {cfg.scale}


@pytest.mark.slow
def test_schedule(tmp_path):
    cfg, _ = written(tmp_path, options=Options(epochs=24, from_scratch=True, batch_size=3, seed=5))
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 24
    assert cfg.param_scheduler[1].milestones == [16, 22]
    assert cfg.param_scheduler[0].end == 24 * 2 // 10  # a tenth of the steps
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)
    assert cfg.train_dataloader.batch_size == 3 and cfg.randomness == dict(seed=5)
    assert cfg.default_hooks.checkpoint.type == 'CheckpointHook'


@pytest.mark.slow
def test_divided_by_image_and_seed(tmp_path):
    train = write_set(tmp_path / 'all', images=10)
    result = write_own_config(train, None, FASTER, tmp_path / 'my.py', SCRATCH, val_share=0.3)
    parts = [json.loads(path.read_text()) for path in result.annotations]
    assert [path.name for path in result.annotations] == ['my_train.json', 'my_val.json']
    ids = [{image['id'] for image in part['images']} for part in parts]
    assert [len(part) for part in ids] == [7, 3] and not ids[0] & ids[1]
    assert all({a['image_id'] for a in part['annotations']} == images
               for part, images in zip(parts, ids))
    whole = read_set(*train)
    assert split_set(whole, 0.3, 0) == tuple(parts) != split_set(whole, 0.3, 1)
    cfg = Config.fromfile(result.config)
    assert cfg.train_annotations == result.annotations[0].as_posix()


@pytest.mark.slow
def test_an_object_with_number_0_would_count_as_missed(tmp_path):
    train, val = write_set(tmp_path / 'a'), write_set(tmp_path / 'b')
    for folder in 'ab':
        path = tmp_path / folder / 'coco.json'
        content = json.loads(path.read_text())
        content['annotations'][0]['id'] = 0
        path.write_text(json.dumps(content))
    result = write_own_config(train, val, FASTER, tmp_path / 'my.py', SCRATCH)
    assert 'numbers annotations from 0' in result.remarks[0]
    divided = write_own_config(train, None, FASTER, tmp_path / 'divided.py', SCRATCH)
    assert not divided.remarks
    for path in divided.annotations:
        assert min(a['id'] for a in json.loads(path.read_text())['annotations']) == 1


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    train = write_set(tmp_path / 'all')
    (tmp_path / 'my_val.json').write_text('mine')
    with pytest.raises(FileExistsError, match='my_val.json exists and is not overwritten'):
        write_own_config(train, None, FASTER, tmp_path / 'my.py')
    assert (tmp_path / 'my_val.json').read_text() == 'mine'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['all', 'my_val.json']


@pytest.mark.parametrize('change, message', [
    (lambda c: c.pop('categories'), 'lacks the list categories'),
    (lambda c: c['annotations'][0].pop('area'), 'lack area.*width times height'),
    (lambda c: c['annotations'][0].update(bbox=[1, 2, 3]), 'not four finite numbers'),
    (lambda c: c['annotations'][0].update(bbox=[1, 2, float('nan'), 3]), 'four finite numbers'),
    (lambda c: c['annotations'][0].update(image_id=99), 'belong to images that it lacks'),
    (lambda c: c['annotations'][1].update(id=1), 'ids of annotations .* more than once'),
    (lambda c: c['images'][0].update(file_name='gone.png'), '1 of 4 images .*gone.png'),
    (lambda c: c['images'][0].update(width=0), 'a width or height that is no whole'),
    (lambda c: c['categories'][1].update(name='ore'), 'two categories named ore'),
    (lambda c: c['annotations'].clear(), 'no box'),
    (lambda c: [a.update(iscrowd=1) for a in c['annotations']], 'no box'),
    (lambda c: c['annotations'].append(7), '1 of 5 annotations .* are no objects'),
])
def test_broken_annotations(tmp_path, change, message):
    annotations, images = write_set(tmp_path)
    content = json.loads((tmp_path / 'coco.json').read_text())
    change(content)
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    with pytest.raises(OwnDataError, match=message):
        read_set(annotations, images)


def test_files_that_are_no_annotations(tmp_path):
    annotations, images = write_set(tmp_path)
    with pytest.raises(OwnDataError, match='is a folder.*globox'):
        read_set(tmp_path, images)
    with pytest.raises(OwnDataError, match='annotation file .* is not there'):
        read_set(tmp_path / 'none.json', images)
    with pytest.raises(OwnDataError, match='image folder .* is not there'):
        read_set(annotations, tmp_path / 'none')
    (tmp_path / 'text.json').write_text('<annotation>')
    with pytest.raises(OwnDataError, match='not readable as JSON.*globox'):
        read_set(tmp_path / 'text.json', images)
    (tmp_path / 'list.json').write_text('[]')
    with pytest.raises(OwnDataError, match='holds a list'):
        read_set(tmp_path / 'list.json', images)


def test_categories_in_another_order_would_mix_labels_up(tmp_path):
    train, val = write_set(tmp_path / 'a'), write_set(tmp_path / 'b', classes=('gem', 'ore'))
    with pytest.raises(OwnDataError, match='the same in another order'):
        write_own_config(train, val, FASTER, tmp_path / 'my.py')


@pytest.mark.parametrize('base, options, message', [
    ('configs/gmconv/mask-rcnn_r50-gm-stem-l1_fpn_1x_coco.py', SCRATCH, 'have no segmentation'),
    ('mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py', SCRATCH, 'reads a'),
    ('mmdet::nothing/here.py', SCRATCH, 'no configs/nothing/here.py'),
    ('configs/cifar/resnet20_cifar10.py', SCRATCH, 'no model with a backbone|not one data set'),
    (FASTER, Options(epochs=0), '--epochs is at least 1'),
    (FASTER, Options(pretrained='x.pth', from_scratch=True), 'contradict'),
    ('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', Options(scale=(320, 320)), '--scale'),
    ('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', Options(epochs=9), '--epochs'),
])
def test_bases_and_options_that_do_not_serve(tmp_path, base, options, message):
    with pytest.raises((OSError, ValueError), match=message):
        written(tmp_path, base, options)
    assert not (tmp_path / 'my config.py').exists()


@pytest.mark.slow
def test_commands_name_files_that_exist(tmp_path):
    _, result = written(tmp_path)
    assert len(result.commands) == 7
    for command in result.commands.values():
        assert all(Path(word).exists() for word in shlex.split(command) if word.startswith('/'))
    _, plain = written(tmp_path / 'plain', 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    assert len(plain.commands) == 4 and 'no convolutions of this package' in plain.remarks[-1]


def test_advice():
    assert advise_scale(np.full(10, 20.), (1333, 800)).size == (1333, 800)
    assert advise_scale(np.full(10, 200.), (1333, 800)).size == (672, 416)
    assert 'tiles' in advise_scale(np.full(10, 9.), (1333, 800)).reason
    kept = advise_anchors(np.full((10, 2), 100.), 32, 512)
    assert (kept.factor, kept.elongated) == (1, False)
    assert advise_anchors(np.full((10, 2), 6.), 32, 512).factor == 0.25
    assert advise_anchors(np.tile([200., 30.], (10, 1)), 32, 512).elongated
    assert advise_epochs(100_000, False)[0] == 12 and advise_epochs(1_000, False)[0] == 38
    assert advise_epochs(5, True)[0] == 300


def test_literals_are_python():
    value = dict(a=[1, 2.5, None, 'x' * 90], b=dict(c=('one',), d={'not a name': True}),
                 e=[f'class {i}' for i in range(40)], f=[], g=dict(), h=('ä', "it's"))
    text = literal(value)
    assert eval(text) == value and max(map(len, text.splitlines())) <= 110


@pytest.mark.slow  # a process of its own
def test_tool_answers_in_one_line(tmp_path, repo):
    run = subprocess.run([sys.executable, repo / 'tools' / 'own_data.py', str(tmp_path),
                          str(tmp_path), '--out', str(tmp_path / 'my.py')],
                         capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith('OwnDataError:')
    assert 'Traceback' not in run.stderr
