"""The path of a shipped config, printed for ``_base_``."""
import subprocess
import sys
from pathlib import Path

import pytest

from gmconv_mmdet.openmmlab.mim_files import shipped_configs

NAME = 'retinanet_r50-gm-stem-l1_fpn_1x_coco'


@pytest.mark.parametrize('name', [NAME, f'{NAME}.py', f'configs/gmconv/{NAME}.py'])
def test_path_of_a_config(name):
    path, = shipped_configs(name)
    assert path.is_file() and path.name == f'{NAME}.py'


def test_two_of_one_name():
    name = 'faster-rcnn_r50_fpn_1x_coco'
    assert [path.parent.name for path in shipped_configs(name)] == ['gmconv', 'refconv']
    assert [path.parent.name for path in shipped_configs(f'refconv/{name}.py')] == ['refconv']
    assert len(shipped_configs()) > 50


def test_unknown_name_is_answered_with_near_ones():
    with pytest.raises(FileNotFoundError, match=f'no config {NAME[:-1]} in .*near it are {NAME}'):
        shipped_configs(NAME[:-1])


def test_command_prints_it(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'gmconv_mmdet.openmmlab.mim_files', NAME],
                          capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_file()
