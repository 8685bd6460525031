from __future__ import annotations

import re

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from gmconv_mmdet.lab.reproduce import preflight
from gmconv_mmdet.lab.reproduce.preflight import (
    check_data,
    check_disk,
    check_gpus,
    check_start,
    check_weights,
)
from gmconv_mmdet.lab.reproduce.table import (
    COCO_2017_IMAGES,
    Row,
    RunOptions,
    find_coco_folder,
    run_config,
    set_classes,
)

from .conftest import CLASSES, edit_json

ROW = Row('faster-rcnn', 'r50-gm-stem-l1')


@pytest.fixture
def cfg(small_coco) -> Config:
    """A config that fits small_coco."""
    config = run_config(ROW, 0, RunOptions(find_coco_folder(small_coco)))
    set_classes(config, CLASSES)
    return config


def test_coco128_fits_our_configs_as_they_are(shared_data):
    data = find_coco_folder(shared_data / 'coco128')
    assert check_data(run_config(ROW, 0, RunOptions(data)), 'all') == []


def test_all_problems_come_at_once(cfg, small_coco):
    train = small_coco / 'annotations' / 'instances_train.json'
    edit_json(train, lambda coco: coco['categories'][1].update(name='bux'))
    (small_coco / 'annotations' / 'instances_val.json').write_text('{"images": [')
    (small_coco / 'images' / '0002.jpg').unlink()
    (small_coco / 'images' / '0003.jpg').write_bytes(b'')
    cfg.model.roi_head.bbox_head.num_classes = 80
    problems = check_data(cfg)
    for said in ('num_classes is 80', 'classes without a category.*box.*bux',
                 'not readable as JSON', '1 of 4 images.*0002.jpg', '0003.jpg is unreadable'):
        assert any(re.search(said, problem) for problem in problems), (said, problems)
    assert len(problems) == 5
    text = str(preflight.PreflightError(problems))
    assert text.startswith('5 problems found before the first iteration:\n1. ') and '\n5. ' in text




def test_images_that_differ_from_their_entries(cfg, small_coco):
    edit_json(small_coco / 'annotations' / 'instances_val.json',
              lambda coco: coco['images'][1].update(width=97))
    problem, = check_data(cfg)
    assert '0101.jpg is 96x64 pixels, not 97x64' in problem
    image = small_coco / 'images' / '0103.jpg'
    image.write_bytes(image.read_bytes()[:-300])  # its head is sound
    assert len(check_data(cfg, 'sample')) == 1
    assert any('0103.jpg is unreadable' in problem for problem in check_data(cfg, 'all'))


def test_other_data_cannot_fill_the_papers_tables(cfg):
    problems = check_data(cfg, number_of_images=COCO_2017_IMAGES)
    assert len(problems) == 2 and all('--rehearse' in problem for problem in problems)
    assert 'has 4 images, COCO 2017\'s train set has 118287' in problems[0]


def small_backbone(row, small_coco, weights=None):
    """The config of a row with a backbone of an eighth of the width."""
    config = run_config(row, 0, RunOptions(find_coco_folder(small_coco), pretrained=weights,
                                           pretrained_plain=weights))
    config.model.backbone.base_channels = 8
    return config


@pytest.mark.slow
def test_weights_are_tried(small_coco, tmp_path):
    gm, plain = Row('faster-rcnn', 'r50-gm-stem-l1'), Row('faster-rcnn', 'r50')
    path = str(tmp_path / 'backbone.pth')
    assert check_weights(small_backbone(gm, small_coco), gm.name) == []  # a link: not fetched
    problem, = check_weights(small_backbone(gm, small_coco, path), gm.name)
    assert problem.startswith(gm.name) and 'no checkpoint at' in problem

    donor = MODELS.build(dict(small_backbone(gm, small_coco).model.backbone, init_cfg=None))
    torch.save(donor.state_dict(), path)
    assert check_weights(small_backbone(gm, small_coco, path), gm.name) == []
    problem, = check_weights(small_backbone(plain, small_coco, path), plain.name)
    assert 'row without GMConv' in problem and '--pretrained-plain' in problem
    config = small_backbone(gm, small_coco, path)
    config.model.backbone.base_channels = 16
    assert 'does not fit' in check_weights(config, gm.name)[0]


def test_the_detector_to_start_from_is_there_and_whole(cfg, tmp_path):
    assert check_start(cfg) == []
    cfg.load_from = str(tmp_path / 'epoch_8.pth')
    assert 'epoch_8.pth is not there or cut short' in check_start(cfg)[0]
    torch.save(dict(state_dict={}), cfg.load_from)
    assert check_start(cfg) == []


def test_disk_and_machine(tmp_path, monkeypatch):
    assert check_disk(tmp_path / 'not' / 'there', ['faster-rcnn']) == []
    problem, = check_disk(tmp_path, ['cascade-rcnn'] * 10**6)
    assert 'GB are free' in problem and '--work-root' in problem
    assert check_gpus(0, 'none') == []
    problem, = check_gpus(torch.cuda.device_count() + 1, 'pytorch')
    assert '--gpus 0 uses the CPU' in problem
    monkeypatch.setenv('PATH', str(tmp_path))
    assert 'srun' in check_gpus(8, 'slurm')[0]
