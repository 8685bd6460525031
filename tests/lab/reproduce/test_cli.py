from __future__ import annotations

import pytest

from gmconv_mmdet.lab.reproduce.cli import main

from .conftest import edit_json


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr().out


@pytest.mark.parametrize('arguments, said', [
    (('--gpus', 2, '--launcher', 'none'), '--launcher pytorch or slurm'),
    (('--gpus', 0, '--launcher', 'pytorch'), 'goes with --launcher none'),
    (('--gpus', -1), 'must be 0 or more'),
    (('--images-per-gpu', 0), '1 or more'),
    (('--gpus', 16, '--nodes', 2), '--rendezvous HOST:PORT'),
    (('--gpus', 9, '--nodes', 2, '--rendezvous', 'one:29500'), 'a multiple of'),
])
def test_arguments_that_contradict_each_other(capsys, tmp_path, arguments, said):
    status, out = run(capsys, 'check', '--table', 'III', '--work-root', tmp_path, *arguments)
    assert status == 2 and said in out


def test_check_lists_all_problems_and_touches_nothing(capsys, tmp_path, small_coco):
    work_root = tmp_path / 'work'
    arguments = ('--table', 'III', '--rows', 'faster-rcnn', '--data-root', small_coco, '--rehearse',
                 '--gpus', 0, '--work-root', work_root)
    status, out = run(capsys, 'check', *arguments)
    assert status == 0 and out.startswith('REHEARSAL') and '2 of 2 runs to make' in out
    edit_json(small_coco / 'annotations' / 'instances_val.json',
              lambda coco: coco['categories'].pop())
    (small_coco / 'images' / '0001.jpg').unlink()
    status, out = run(capsys, 'check', *arguments, '--pretrained', tmp_path / 'none.pth')
    assert status == 1 and '4 problems found before the first iteration' in out
    for said in ('thing with a very long name', 'category_id', '0001.jpg', 'none.pth'):
        assert said in out
    assert not work_root.exists()


def test_a_full_run_wants_coco_2017(capsys, tmp_path, small_coco):
    status, out = run(capsys, 'run', '--table', 'III', '--rows', 'faster-rcnn_r50', '--data-root',
                      small_coco, '--gpus', 0, '--work-root', tmp_path / 'work')
    assert status == 1 and '--rehearse tries the machinery on any' in out
    assert 'there is no metainfo' in out and not (tmp_path / 'work').exists()


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
    (('--config', 'none.py', '--rehearse'), '--rehearse goes with --table'),
])
def test_arguments_of_a_comparison_that_can_not_be(capsys, tmp_path, arguments, said):
    status, out = run(capsys, 'check', '--out', tmp_path, *arguments)
    assert status == 2 and said in out and len(out.splitlines()) == 1
