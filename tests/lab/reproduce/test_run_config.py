import pytest
from mmengine.config import Config

from gmconv_mmdet.lab.reproduce.coco_folder import find_coco_folder
from gmconv_mmdet.lab.reproduce.rows import Row
from gmconv_mmdet.lab.reproduce.run_config import (
    RunOptions,
    backbone_weights,
    run_config,
    set_classes,
    write_config,
)

GM, PLAIN = Row('cascade-rcnn', 'r50-gm-stem-l1'), Row('faster-rcnn', 'r50')
# What no shell quoting is to be trusted with.
ODD = 'it\'s "my" data, {a} [b] ü'


@pytest.fixture
def coco(tmp_path):
    return find_coco_folder(tmp_path / ODD)


def test_a_full_run_keeps_the_papers_recipe(coco):
    for row in (GM, PLAIN, Row('faster-rcnn', 'r50-gm-stem-l1-dcn-l2-l4')):
        cfg, original = run_config(row, 3, RunOptions(coco)), Config.fromfile(row.config)
        for key in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
            assert cfg[key] == original[key]
        assert cfg.model == original.model
        assert cfg.train_dataloader.dataset.pipeline == original.train_dataloader.dataset.pipeline
        assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)
        assert cfg.randomness == dict(seed=3)
        assert cfg.default_hooks.checkpoint.max_keep_ckpts == 2


def test_data_are_where_they_were_said_to_be(coco):
    cfg = run_config(PLAIN, 0, RunOptions(coco, workers=5))
    for split, annotations, images in (('train', coco.train_annotations, coco.train_images),
                                       ('val', coco.val_annotations, coco.val_images),
                                       ('test', coco.val_annotations, coco.val_images)):
        loader = cfg[f'{split}_dataloader']
        assert loader.dataset.data_root == f'{coco.root}/' and loader.num_workers == 5
        assert (loader.dataset.ann_file, loader.dataset.data_prefix.img) == (annotations, images)
    assert cfg.test_evaluator.ann_file == str(coco.path('val_annotations'))


def test_options_reach_the_config(coco):
    cfg = run_config(PLAIN, 0, RunOptions(coco, images_per_gpu=4, amp=True, coco_eval='faster'))
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.val_evaluator.type == cfg.test_evaluator.type == 'FastCocoMetric'


def test_rows_with_and_without_gmconv_start_from_their_own_weights(coco, monkeypatch):
    monkeypatch.delenv('GMCONV_PRETRAINED', raising=False)
    options = RunOptions(coco, pretrained='gm.pth', pretrained_plain='plain.pth')
    assert backbone_weights(run_config(GM, 0, options)) == 'gm.pth'
    assert backbone_weights(run_config(PLAIN, 0, options)) == 'plain.pth'
    # Masks come trained with these weights and stay as they are in frozen stages: the paper's way.
    assert run_config(GM, 0, options).model.backbone.freeze_masks is True
    assert 'freeze_masks' not in run_config(PLAIN, 0, options).model.backbone
    assert backbone_weights(run_config(GM, 0, RunOptions(coco))) == 'torchvision://resnet50'
    rehearsal = run_config(GM, 0, RunOptions(coco, rehearsal=True))
    assert backbone_weights(rehearsal) is None and not rehearsal.model.backbone.norm_eval
    rehearsal = run_config(GM, 0, options._replace(rehearsal=True))
    assert backbone_weights(rehearsal) == 'gm.pth' and rehearsal.model.backbone.norm_eval


def test_a_rehearsal_is_small_and_on_any_classes(coco):
    cfg = run_config(GM, 0, RunOptions(coco, rehearsal=True), classes=('a', 'b', 'c'))
    full = run_config(GM, 0, RunOptions(coco))
    assert [head.num_classes for head in cfg.model.roi_head.bbox_head] == [3, 3, 3]
    assert cfg.val_dataloader.dataset.metainfo.classes == ('a', 'b', 'c')
    assert cfg.train_cfg.max_epochs == 2
    # The network stays as large as it is.
    assert cfg.model.backbone.gm_stages == full.model.backbone.gm_stages
    assert cfg.model.neck == full.model.neck


def test_classes_reach_every_head_of_a_model(coco):
    cfg = Config.fromfile(PLAIN.config.with_name('mask-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'))
    set_classes(cfg, ('one', ))
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 1


def test_the_written_config_is_the_whole_config(coco, tmp_path, monkeypatch):
    monkeypatch.setenv('GMCONV_PRETRAINED', 'first.pth')
    cfg = run_config(GM, 0, RunOptions(coco))
    write_config(cfg, tmp_path / 'config.py')
    monkeypatch.setenv('GMCONV_PRETRAINED', 'second.pth')
    copy = Config.fromfile(tmp_path / 'config.py')
    assert copy.to_dict() == cfg.to_dict() and backbone_weights(copy) == 'first.pth'
    assert [path.name for path in tmp_path.iterdir()] == ['config.py']
