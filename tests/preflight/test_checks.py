"""Single checks of the preflight, and its command line."""
from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModule

from gmconv_mmdet.own_data.own_config import Options
from gmconv_mmdet.own_data.write import write_own_config
from gmconv_mmdet.preflight import command
from gmconv_mmdet.preflight.boxes import check_format
from gmconv_mmdet.preflight.classes import check_heads, class_names, head_classes
from gmconv_mmdet.preflight.datasets import dataset_parts
from gmconv_mmdet.preflight.from_scratch import check_from_scratch
from gmconv_mmdet.preflight.image_files import check_images
from gmconv_mmdet.preflight.registered_names import check_batch, check_config
from gmconv_mmdet.preflight.report import FAULT, NOTE, OK, Report
from gmconv_mmdet.preflight.start_weights import load_start_weights, unreachable
from gmconv_mmdet.preflight.trained import check_trained
from gmconv_mmdet.preflight.trial import Step, broken, trial_config
from gmconv_mmdet.preflight.way_out import way_out

from ..detector_config import detector
from .sabotages import SABOTAGES, Sabotage, prepared


class Small(BaseModule):
    """Backbone and neck of the small detector's config."""

    def __init__(self, depth=18, **backbone):
        super().__init__()
        cfg = detector(**backbone)
        self.backbone = MODELS.build(dict(cfg['backbone'], depth=depth))
        self.neck = MODELS.build(cfg['neck'])


def test_class_names_are_the_data_sets_own_by_default():
    names, problems = class_names(dict(), CocoDataset)
    assert len(names) == 80 and names[0] == 'person' and problems == []
    for classes, said in ((('a', 'b', 'a'), 'more than once'), ((), 'empty'), ((1, 2), 'strings')):
        assert said in class_names(dict(metainfo=dict(classes=classes)), CocoDataset)[1][0]


def test_heads_of_other_things_have_numbers_of_their_own():
    model = dict(backbone=dict(num_classes=1000), rpn_head=dict(num_classes=1),
                 roi_head=dict(semantic_head=dict(num_classes=183),
                               bbox_head=[dict(num_classes=6), dict(num_classes=7)]))
    assert list(head_classes(model)) == [('model.roi_head.bbox_head[0].num_classes', 6),
                                         ('model.roi_head.bbox_head[1].num_classes', 7)]
    problem, = check_heads(model, ['a'] * 6)
    assert 'bbox_head[1].num_classes is 7' in problem


def test_data_sets_inside_others():
    coco, other = dict(type='CocoDataset', ann_file='a'), dict(type='CocoDataset', ann_file='b')
    nested = dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[coco, other]))
    assert list(dataset_parts(nested)) == [coco, other]
    assert list(dataset_parts(None)) == []


def test_real_boxes_are_in_cocos_format(shared_data):
    for file in ('coco128/annotations/instances_all.json', 'deeppcb/annotations/instances_train.json'):
        assert check_format(json.loads((shared_data / file).read_text()), shared_data / file) == []


def test_every_image_is_decoded_on_request(shared_data):
    path = shared_data / 'coco128' / 'annotations' / 'instances_val.json'
    seen = []
    assert check_images(json.loads(path.read_text()), path, shared_data / 'coco128' / 'images', '',
                        'all', lambda *what: seen.append(what)) == []
    assert seen[-1] == (32, 32)


@pytest.mark.parametrize('changes, said', [
    (dict(frozen_stages=-1, norm_eval=False), []),
    (dict(), ['conv1, layer1 of the backbone are frozen', 'norm_eval=False']),
    (dict(frozen_stages=-1), ['norm_eval=False']),
    (dict(frozen_stages=-1, norm_eval=False, norm_cfg=dict(type='BN', requires_grad=False)),
     ['requires_grad=True']),
])
def test_from_scratch_in_mmdets_own_resnet(changes, said):
    model = Small(**{**dict(frozen_stages=1, norm_eval=True), **changes})
    problems = check_from_scratch(model, load_start_weights(model, None))
    assert len(problems) == len(said)
    assert all(part in problem for part, problem in zip(said, problems))


def test_frozen_stages_are_sound_with_weights(tmp_path):
    donor = Small()
    torch.save(donor.backbone.state_dict(), tmp_path / 'backbone.pth')
    torch.save(donor.state_dict(), tmp_path / 'detector.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    model = Small(frozen_stages=1, norm_eval=True, init_cfg=init)
    start = load_start_weights(model, None)
    assert not start.problems and ' tensors loaded by init_cfg of backbone' in start.loaded[0]
    assert torch.equal(model.backbone.conv1.weight, donor.backbone.conv1.weight)
    assert check_from_scratch(model, start) == []
    model = Small(frozen_stages=1)
    start = load_start_weights(model, str(tmp_path / 'detector.pth'))
    assert not start.problems and torch.equal(model.neck.fpn_convs[0].conv.weight,
                                              donor.neck.fpn_convs[0].conv.weight)
    assert check_from_scratch(model, start) == []


def test_a_link_in_the_cache_counts_as_there(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    link = 'http://127.0.0.1:9/backbone.pth'
    assert 'refused' in unreachable(link)
    donor = Small().backbone
    (tmp_path / 'hub' / 'checkpoints').mkdir(parents=True)
    torch.save(donor.state_dict(), tmp_path / 'hub' / 'checkpoints' / 'backbone.pth')
    model = Small(init_cfg=dict(type='GMPretrained', checkpoint=link))
    start = load_start_weights(model, None)
    assert not start.problems and 'tensors loaded into backbone' in start.loaded[0]


def test_a_checkpoint_of_another_model(tmp_path):
    model, cfg = Small(), Config(dict(model={}))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'epoch_1.pth')
    assert check_trained(tmp_path / 'epoch_1.pth', cfg, model) == []
    problem, = check_trained(tmp_path / 'epoch_1.pth', cfg, Small(depth=34))
    assert 'is of another model' in problem and 'Name the config' in problem


def test_names_of_ours_need_our_import():
    cfg = dict(train_dataloader=dict(batch_size=2), model=dict(backbone=dict(type='mmdet.GMResNet')))
    problem, = check_config(Config(cfg))
    assert 'registers mmdet.GMResNet' in problem
    assert check_config(Config(dict(cfg, custom_imports=dict(imports='gmconv_mmdet')))) == []
    assert check_config(Config(dict(cfg, model=dict(backbone=dict(type='ResNet'))))) == []


def test_batch_and_learning_rate():
    cfg = Config(dict(train_dataloader=dict(batch_size=2), auto_scale_lr=dict(base_batch_size=16)))
    assert 'meant for 16 images' in check_batch(cfg)[0]
    cfg.auto_scale_lr.enable = True
    assert check_batch(cfg) == []


@pytest.mark.parametrize('losses, after, said', [
    (dict(loss=2.0), 2.5, ''), (dict(loss=2.0), 3e9, 'from 2 to 3e+09'),
    (dict(loss=2.0), float('nan'), 'to nan'),
    (dict(loss=float('nan'), loss_cls=float('inf')), 1, 'loss, loss_cls is not finite'),
])
def test_a_step_that_breaks_the_losses(losses, after, said):
    assert said in broken(Step(losses, after, 2, 9, [])) and bool(said) == bool(
        broken(Step(losses, after, 2, 9, [])))


def test_a_trial_writes_to_its_folder_alone(tmp_path):
    cfg = Config(dict(work_dir='mine', load_from='x.pth', visualizer=dict(vis_backends=[
        dict(type='WandbVisBackend')]), train_dataloader=dict(num_workers=4, prefetch_factor=2)))
    trial = trial_config(cfg, str(tmp_path))
    assert trial.work_dir == str(tmp_path) and trial.load_from is None
    assert trial.visualizer.vis_backends == [dict(type='LocalVisBackend')]
    assert trial.train_dataloader.num_workers == 0 and 'prefetch_factor' not in trial.train_dataloader
    assert cfg.work_dir == 'mine' and cfg.train_dataloader.num_workers == 4


def test_an_exception_in_one_line():
    try:
        assert isinstance(3, str)
    except AssertionError as error:
        assert 'test_checks.py line' in way_out(error)
    assert 'set metainfo' in way_out(ValueError('need at least one array\nto concatenate'))


def test_report():
    out, progress = io.StringIO(), io.StringIO()
    report = Report(out, progress)
    report.add('a', OK, 'two\nlines')
    report.add('a', OK, 'two\nlines')  # once is enough
    report.add('b', NOTE, 'n')
    report.doing('something')  # not for five seconds
    assert out.getvalue() == 'ok     a              two lines\nnote   b              n\n'
    assert progress.getvalue() == '' and not report.has_fault()
    assert report.faults('c', ['x', 'y']) and report.has_fault('c') and not report.has_fault('a')
    assert [item['status'] for item in json.loads(report.as_json())] == [OK, NOTE, FAULT, FAULT]


def test_progress_overwrites_itself_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    out = Terminal()
    report = Report(out, out)
    report.doing('image 1 of 9')
    report.add('a', OK, 'b')
    assert out.getvalue() == '\r       image 1 of 9\x1b[K\r\x1b[Kok     a              b\n'


def test_ctrl_c_is_no_traceback(monkeypatch, tmp_path):
    def stop(*arguments):
        raise KeyboardInterrupt
    monkeypatch.setattr(command, '_config', stop)
    out = io.StringIO()
    assert command.main([str(tmp_path)], out) == 130 and out.getvalue() == 'stopped\n'


def run_doctor(repo, *arguments, **environment):
    return subprocess.run([sys.executable, str(repo / 'tools' / 'doctor.py'), *arguments],
                          env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
                          capture_output=True, text=True)


@pytest.mark.slow
def test_command_line(repo, tmp_path, shared_data):
    arguments = prepared(Sabotage('none', '', trial=True), tmp_path / 'sound', shared_data)
    done = run_doctor(repo, *arguments)
    assert done.returncode == 0 and 'ok     evaluation' in done.stdout, done.stdout + done.stderr
    spoilt = prepared(SABOTAGES[0], tmp_path / 'spoilt', shared_data)
    done = run_doctor(repo, *spoilt, '--json')
    assert done.returncode == 1 and 'Traceback' not in done.stdout + done.stderr
    assert [item['check'] for item in json.loads(done.stdout) if item['status'] == FAULT] == ['classes']
    module = subprocess.run([sys.executable, '-m', 'gmconv_mmdet.doctor', *spoilt, '--cfg-options',
                             'model.roi_head.bbox_head.num_classes=9'], capture_output=True, text=True)
    assert module.returncode == 1 and 'num_classes is 9' in module.stdout, module.stdout + module.stderr


@pytest.mark.slow
def test_a_broken_environment_is_one_line(repo, tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text("__version__ = '1.7.0'\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get('PYTHONPATH')]))
    done = run_doctor(repo, 'config.py', PYTHONPATH=path)
    assert done.returncode == 1 and 'Traceback' not in done.stdout + done.stderr
    line, = done.stdout.splitlines()
    assert line.startswith('fault  environment') and 'without a config tells what to install' in line


@pytest.mark.slow
def test_a_config_that_own_data_writes_is_sound(tmp_path, shared_data):
    sets = [(str(shared_data / 'coco128' / 'annotations' / f'instances_{split}.json'),
             str(shared_data / 'coco128' / 'images')) for split in ('train', 'val')]
    written = write_own_config(*sets, 'configs/gmconv/retinanet_r50-gm-stem-l1_fpn_1x_coco.py',
                               tmp_path / 'mine.py', Options(from_scratch=True, scale=(160, 128)))
    out = io.StringIO()
    assert command.main([str(written.config)], out) == 0, out.getvalue()
