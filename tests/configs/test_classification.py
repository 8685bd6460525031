"""The recipes of Tables I, II, IV and Fig. 6: cost, placement, schedule, and that they train."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

mmpretrain = pytest.importorskip('mmpretrain')
from mmpretrain.registry import MODELS  # noqa: E402

from gmconv_mmdet import GMConv2d  # noqa: E402
from gmconv_mmdet.lab.benchmark.cost import classifier_cost  # noqa: E402

ROOT = Path(__file__).resolve().parents[2] / 'configs'
CIFAR = sorted(path.stem for path in (ROOT / 'cifar').glob('*.py'))
IN1K = sorted(path.stem for path in (ROOT / 'pretrain').glob('*_8xb32_in1k.py'))

# Tables I and II: config -> Params (M, as printed), FLOPs (M), tolerance
TABLES = {
    'cifar/resnet20{}_cifar10': ('0.27', 42, 0.015),
    'cifar/resnet56{}_cifar10': ('0.85', 128, 0.015),
    'cifar/resnet18{}_cifar100': ('11.22', 558, 0.015),
    'pretrain/mobilenet-v2{}_8xb32_in1k': ('3.50', 327, 0.05),
    'pretrain/resnet18{}_8xb32_in1k': ('11.69', 1820, 0.015),
    'pretrain/resnet50{}_8xb32_in1k': ('25.56', 4130, 0.015),
    'pretrain/alexnet{}_8xb32_in1k': ('61.10', 714, 0.015),
}


@pytest.mark.slow
@pytest.mark.parametrize('method', ['-gmconv', *(pytest.param(method, marks=pytest.mark.nightly)
                                                for method in ('', '-sgmconv'))])
@pytest.mark.parametrize('config', TABLES)
def test_parameters_and_flops_are_the_papers(config, method):
    parameters, flops, tolerance = TABLES[config]
    cost = classifier_cost(ROOT / f'{config.format(method)}.py', 32 if 'cifar' in config else 224)
    assert f'{cost.parameters / 1e6:.2f}' == parameters
    assert abs(cost.flops / 1e6 / flops - 1) <= tolerance


def load(name):
    return Config.fromfile(ROOT / ('cifar' if 'cifar' in name else 'pretrain') / f'{name}.py')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    yield
    init_default_scope('mmdet')


# Reading a config takes a second: one of each kind always, all of them at night.
QUICK = ('resnet20-sgmconv-sigma1_cifar10', 'resnet18-gmconv_cifar10-packed', 'resnet56_cifar100',
         'resnet18-gmconv-sigma-pair_8xb32_in1k', 'mobilenet-v2-sgmconv_8xb32_in1k')


@pytest.mark.slow
@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.nightly) for name in CIFAR + IN1K])
def test_placement_and_recipe(name):
    cfg = load(name)
    network = MODELS.build(cfg.model.backbone)
    masks = [layer for layer in network.modules() if isinstance(layer, GMConv2d)]
    larger = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)
              and layer.kernel_size != (1, 1)]
    if 'gmconv' not in name:
        assert not masks
    else:
        assert len(masks) == len(larger)
        dynamic = [layer.dynamic for layer in masks]
        assert dynamic == ['-gmconv' in name] + [False] * (len(masks) - 1)
        sigma = 1 if 'sigma1_' in name else 10 if 'sigma10' in name else 5
        assert all(layer.init_sigma == sigma for layer in masks)
        if '-gmconv' in name:
            pattern = ('sigma_pair' if 'sigma-pair' in name else
                       'sigma' if '-sigma_' in name else 'sigma_ratio')
            assert masks[0].sigma_predictor.sigma_pattern == pattern
    assert cfg.custom_hooks[-1].type == 'ExactResumeHook' and cfg.randomness.seed == 0
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == 'SGD' and optimizer.momentum == 0.9
    batch, classes = cfg.train_dataloader.batch_size, cfg.model.head.get(
        'num_classes', cfg.model.backbone.get('backbone', {}).get('num_classes'))
    steps, scheduler = cfg.train_cfg.max_epochs, cfg.param_scheduler
    if 'cifar' in name:
        wide = name.startswith('resnet18')
        assert (batch, optimizer.lr) == (128, 0.1)
        assert optimizer.weight_decay == (5e-4 if wide else 1e-4)
        assert steps == (200 if wide else 160)
        assert (scheduler.milestones, scheduler.gamma) == (
            ([60, 120, 160], 0.2) if wide else ([80, 120], 0.1))
        assert classes == (100 if 'cifar100' in name else 10)
        crop = cfg.train_dataloader.dataset.pipeline[0]
        assert (crop.type, crop.crop_size, crop.padding) == ('RandomCrop', 32, 4)
        kind = 'PackedCIFAR' if 'packed' in name else 'CIFAR100' if '100' in name else 'CIFAR10'
        assert cfg.train_dataloader.dataset.type == cfg.test_dataloader.dataset.type == kind
    else:
        assert (batch, optimizer.weight_decay, classes) == (32, 4e-5, 1000)
        assert cfg.auto_scale_lr.base_batch_size == 256
        assert optimizer.lr == (0.1 if name.startswith('resnet') else 0.01)
        if name.startswith('mobilenet'):
            assert (steps, scheduler.type) == (300, 'StepLR')
            assert (scheduler.gamma, scheduler.step_size) == (0.98, 1)
        else:
            assert (steps, scheduler.milestones, scheduler.gamma) == (90, [30, 60], 0.1)


def test_every_row_has_its_config():
    for network in ('resnet20', 'resnet56', 'resnet18'):
        for data in ('cifar10', 'cifar100'):
            for method in ('', '-sgmconv', '-gmconv', '-sgmconv-sigma1', '-sgmconv-sigma10'):
                assert f'{network}{method}_{data}' in CIFAR
    for network in ('resnet18', 'resnet50', 'alexnet', 'mobilenet-v2'):
        for method in ('', '-sgmconv', '-gmconv'):
            assert f'{network}{method}_8xb32_in1k' in IN1K
        if network != 'mobilenet-v2':  # Table IV
            assert {f'{network}-gmconv-sigma_8xb32_in1k',
                    f'{network}-gmconv-sigma-pair_8xb32_in1k'} <= set(IN1K)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['resnet20-gmconv_cifar10-packed', pytest.param(
    'resnet18_cifar10-packed', marks=pytest.mark.nightly)])
def test_trains_with_mmpretrains_own_tool(name, tmp_path, shared_data):
    tool = Path(mmpretrain.__file__).parent / '.mim' / 'tools' / 'train.py'
    options = ['train_dataloader.dataset.every=800', 'val_dataloader.dataset.every=250',
               'train_dataloader.batch_size=16', 'train_cfg.max_epochs=1',
               'train_dataloader.num_workers=0',
               'val_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
               'val_dataloader.persistent_workers=False']
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', tool, ROOT / 'cifar' / f'{name}.py', '--work-dir',
         tmp_path, '--cfg-options', *options],
        env={**os.environ, 'CIFAR10_PACKED': str(shared_data), 'OMP_NUM_THREADS': '1'},
        cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert 'accuracy/top1' in run.stdout + run.stderr
    assert (tmp_path / 'epoch_1.pth').is_file()
