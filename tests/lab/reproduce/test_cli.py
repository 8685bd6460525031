from __future__ import annotations

import pytest
import torch

from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.reproduce.cli import main, plan_text
from gmconv_mmdet.lab.reproduce.run_folder import RunFolder
from gmconv_mmdet.lab.reproduce.table import select_rows

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
    assert 'classes without a category' in out and not (tmp_path / 'work').exists()


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


def test_a_config_without_masks_is_one_clear_line(capsys, tmp_path, repo):
    config = repo / 'configs' / 'gmconv' / 'faster-rcnn_r50_fpn_1x_coco.py'
    status, out = run(capsys, 'check', '--config', config, '--out', tmp_path / 'out')
    assert status == 1 and 'it is its own plain twin' in out and not (tmp_path / 'out').exists()


def test_plan_counts_what_is_left(tmp_path):
    runs = [RunFolder(tmp_path, row, 0, False) for row in select_rows('III')]
    done, begun = runs[0], runs[1]
    for run in (done, begun):
        run.train_dir.mkdir(parents=True)
        write_json(run.settings, {})
    write_json(done.result, dict(schema=1, row=done.row.name, seed=0, rehearsal=False))
    torch.save({}, begun.train_dir / 'epoch_5.pth')
    (begun.train_dir / 'epoch_6.pth').write_bytes(b'cut off')
    lines = plan_text(runs).splitlines()
    assert lines[1].split()[1:] == ['0', 'done', '12/12', '0']
    assert lines[2].split()[1:] == ['0', 'in', 'progress', '5/12', f'{7 * 118_287:,}']
    assert lines[3].split()[1:] == ['0', 'missing', '0/12', f'{12 * 118_287:,}']
    assert lines[-1].startswith('1 done, 1 in progress, 2 missing; '
                                f'{31 * 118_287:,} images x epochs left')
