"""From a GM backbone trained by mmpretrain's own tool to a GM detector trained and tested by
mmdet's."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gmconv_mmdet.checkpoints import read_checkpoint

from .processes import finished, mmdet_tool
from .test_mmdet_tools import COCO128_CONFIG

mmpretrain = pytest.importorskip('mmpretrain')

DETECTOR = '''
model['backbone'] = dict(
    depth=18, frozen_stages=1, freeze_masks=True, norm_eval=True,
    init_cfg=dict(type='GMPretrained', checkpoint={checkpoint!r}))
model['neck'] = dict(in_channels=[64, 128, 256, 512])
'''


@pytest.mark.nightly
def test_pretrain_publish_load_train_test(shared_data, repo, tmp_path):
    options = ['train_dataloader.dataset.every=80', 'val_dataloader.dataset.every=100',
               'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
               'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
               'randomness.seed=0']
    environment = {**os.environ, 'CIFAR10_PACKED': str(shared_data), 'OMP_NUM_THREADS': '1'}
    finished(subprocess.Popen(
        [sys.executable, '-W', 'ignore',
         Path(mmpretrain.__file__).parent / '.mim' / 'tools' / 'train.py',
         repo / 'configs/pretrain/resnet18-gmconv_rehearsal_cifar10.py', '--work-dir', 'pretrain',
         '--cfg-options', *options],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    trained = read_checkpoint(tmp_path / 'pretrain/epoch_1.pth')['state_dict']
    sigmas = [value for name, value in trained.items() if name.endswith('.sigma')]
    assert len(sigmas) == 16 and all((sigma != 5).all() for sigma in sigmas)  # they did learn

    output = finished(subprocess.Popen(
        [sys.executable, '-W', 'ignore', repo / 'tools/model_converters/convert_backbone.py',
         'pretrain/epoch_1.pth', 'gm_r18.pth'],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    published = Path(re.search(r'^written: (.*)$', output, re.M)[1])
    assert 'depth: 18' in output and 'masks: 1 dynamic, 16 static' in output

    config = tmp_path / 'detector.py'
    config.write_text(COCO128_CONFIG.format(
        base=str(repo / 'configs/gmconv/faster-rcnn_r50-gm-stem-l1-l4_fpn_1x_coco.py'), iters=3,
        data_root=f'{shared_data / "coco128"}/') +
        DETECTOR.format(checkpoint=str(tmp_path / published)))
    output = finished(mmdet_tool('train.py', config, '--work-dir', 'detector', cwd=tmp_path,
                                 env=environment))
    backbone = {name[len('backbone.'):]: value for name, value in trained.items()
                if name.startswith('backbone.')}
    # Every key is accounted for: one row, nothing folded, initialised or ignored.
    table = re.search(r'GMPretrained: (.*(?:\n(?!\d).*)*)', output)[1].strip().splitlines()
    assert re.match(rf'loaded +{len(backbone)}  same name and shape', table[2]), table
    assert len(table) == 3 or not re.match('folded|initialized|ignored', table[3]), table
    assert 'conv1: 1 come trained and are frozen' in output
    after = read_checkpoint(tmp_path / 'detector/iter_3.pth')['state_dict']
    changed = {name for name, value in backbone.items()
               if not torch.equal(after[f'backbone.{name}'], value)}
    assert not any(name.startswith(('conv1', 'bn1', 'layer1')) for name in changed)
    assert {'layer2.0.conv1.weight', 'layer2.0.conv1.sigma'} <= changed
    output = finished(mmdet_tool('test.py', config, 'detector/iter_3.pth', cwd=tmp_path,
                                 env=environment))
    assert 'coco/bbox_mAP' in output
