import pytest
from mmengine.config import Config

from gmconv_mmdet.lab.reproduce.table import (
    Row,
    RunOptions,
    backbone_weights,
    find_coco_folder,
    paper_results,
    run_config,
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


@pytest.mark.slow
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


def test_every_row_has_a_config_and_a_baseline_in_its_table():
    for table, number in (('III', 4), ('V', 14)):
        rows = list(paper_results(table))
        assert len(rows) == number
        for row in rows:
            assert row.config.is_file()
            assert row.baseline is None or row.baseline in rows
            assert (row.baseline is None) == (row.backbone == 'r50')


def test_coco_2017s_names_come_first_and_are_the_default(tmp_path):
    empty = find_coco_folder(tmp_path / 'no data')
    assert empty[1:] == ('annotations/instances_train2017.json',
                         'annotations/instances_val2017.json', 'train2017', 'val2017')
    for name in ('train2017', 'train', 'images', 'val'):
        (tmp_path / name).mkdir()
    assert find_coco_folder(tmp_path).train_images == 'train2017'
    assert find_coco_folder(tmp_path).val_images == 'val'
