"""The command that docs/reproduce.md and the driver give for several processes, without a GPU."""
import os
import re
import subprocess

import pytest

from gmconv_mmdet.checkpoints import read_checkpoint
from gmconv_mmdet.lab.demo.shapes import make_shapes
from gmconv_mmdet.lab.reproduce.driver import launch_command
from gmconv_mmdet.openmmlab.mim_files import shipped

from ..processes import CPU

CONFIG = '''
_base_ = {base!r}
custom_imports = dict(
    imports=['gmconv_mmdet', 'tests.distributed.gloo_on_cpu'], allow_failed_imports=False)
model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                         find_unused_parameters=False)
train_cfg = dict(max_epochs=1, val_interval=1)
train_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1))
'''


@pytest.mark.slow
def test_torchrun_trains_a_detector_in_two_processes(repo, tmp_path):
    make_shapes(tmp_path / 'shapes', 6, 4)
    config = tmp_path / 'two.py'
    config.write_text(CONFIG.format(
        base=str(repo / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py')))
    command = launch_command(
        shipped('tools/train.py', 'mmdet'), [str(config), '--work-dir', str(tmp_path / 'w')],
        gpus=2)
    assert command[1:5] == ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    run = subprocess.run(command, cwd=tmp_path, text=True, timeout=300, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, env={
                             **os.environ, **CPU, 'PYTHONPATH': str(repo),
                             'GMCONV_DEMO_DATA': str(tmp_path / 'shapes')})
    assert run.returncode == 0, run.stdout[-4000:]
    assert re.search(r'Distributed training: True', run.stdout)
    assert len(re.findall(r'Epoch\(train\)', run.stdout)) == 3  # 6 images, 2 at a time
    assert 'coco/bbox_mAP' in run.stdout or 'The testing results of the whole dataset is empty' in (
        run.stdout)
    weights = read_checkpoint(tmp_path / 'w' / 'epoch_1.pth')['state_dict']
    sigmas = {name: value for name, value in weights.items() if name.endswith('.sigma')}
    assert len(sigmas) == 16 and all((value != 5).all() for value in sigmas.values())
