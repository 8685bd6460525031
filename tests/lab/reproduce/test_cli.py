from __future__ import annotations

import pytest

from gmconv_mmdet.lab.reproduce.cli import main

from .conftest import CLASSES, edit_json


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr().out


def own_config(tmp_path, repo, small_coco):
    """The demo's detector on a data set of three classes."""
    path = tmp_path / 'own.py'
    path.write_text(f'''
_base_ = {str(repo / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py')!r}
data = dict(data_root={str(small_coco)!r}, metainfo=dict(classes={CLASSES!r}),
            data_prefix=dict(img='images/'))
train_dataloader = dict(dataset=dict(ann_file='annotations/instances_train.json', **data))
val_dataloader = dict(dataset=dict(ann_file='annotations/instances_val.json', **data))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={str(small_coco / 'annotations' / 'instances_val.json')!r})
test_evaluator = val_evaluator
model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
''')
    return path


@pytest.mark.slow
def test_check_lists_all_problems_and_touches_nothing(capsys, tmp_path, repo, small_coco):
    work_root = tmp_path / 'work'
    arguments = ('--config', own_config(tmp_path, repo, small_coco), '--gpus', 0, '--work-root',
                 work_root)
    status, out = run(capsys, 'check', *arguments)
    assert status == 0 and '2 of 2 runs to make' in out, out
    edit_json(small_coco / 'annotations' / 'instances_val.json',
              lambda coco: coco['categories'].pop())
    (small_coco / 'images' / '0001.jpg').unlink()
    status, out = run(capsys, 'check', *arguments)
    assert status == 1 and 'problems found before the first iteration' in out
    for said in ('thing with a very long name', 'category_id', '0001.jpg'):
        assert said in out
    assert not work_root.exists()


@pytest.mark.slow
def test_a_table_wants_coco_where_data_root_says(capsys, tmp_path, small_coco):
    status, out = run(capsys, 'run', '--table', 'III', '--rows', 'faster-rcnn_r50', '--data-root',
                      small_coco, '--gpus', 0, '--work-root', tmp_path / 'work')
    assert status == 1 and 'instances_train2017.json' in out and not (tmp_path / 'work').exists()


@pytest.mark.slow
def test_plan_and_rows_of_a_table(capsys, tmp_path):
    arguments = ('plan', '--table', 'V', '--work-root', tmp_path)
    status, out = run(capsys, *arguments, '--rows', 'r50-gm-stem-l1', 'cascade-rcnn_r50')
    assert status == 0 and '3 missing; 36 epochs left' in out
    status, out = run(capsys, *arguments, '--rows', 'r51')
    assert status == 2 and 'no such variant: r51. There are faster-rcnn_r50, ' in out


@pytest.mark.slow
def test_plan_of_a_comparison(capsys, tmp_path, repo):
    demo = repo / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'
    arguments = ('plan', '--config', demo, '--variant', 'sgm', 'model.backbone.gm_stem=static',
                 '--seeds', 0, 1, '--out', tmp_path, '--cfg-options', 'train_cfg.max_epochs=3')
    status, out = run(capsys, *arguments)
    assert status == 0 and '6 missing; 18 epochs left' in out
    status, out = run(capsys, *arguments, '--rows', 'plain', 'sgm')
    assert status == 0 and '4 missing' in out and 'gm ' not in out.replace('sgm ', '')
    status, out = run(capsys, *arguments, '--rows', 'rgm')
    assert status == 2 and 'no such variant: rgm. There are plain, gm, sgm' in out


@pytest.mark.parametrize('arguments, said', [
    ((), 'give --config CONFIG'),
    (('--table', 'V', '--config', 'x.py'), 'give --config CONFIG'),
    (('--config', 'none.py'), 'no config at'),
    (('--table', 'V', '--gpus', '-1'), '--gpus must be 0 or more'),
    (('--table', 'V', '--jobs', '0'), '--jobs and --threads 1 or more'),
    (('--table', 'V', '--cfg-options', 'x'), "'x' is neither key=value"),
])
def test_arguments_of_a_comparison_that_can_not_be(capsys, tmp_path, arguments, said):
    status, out = run(capsys, 'check', '--out', tmp_path, *arguments)
    assert status == 2 and said in out and len(out.splitlines()) == 1
