import pytest

from gmconv_mmdet.openmmlab.mim_files import shipped


def test_tools_of_mmdet_and_configs_of_ours_are_found(repo):
    assert shipped('tools/train.py', 'mmdet').is_file()
    assert shipped('configs/gmconv') == repo / 'configs' / 'gmconv'
    with pytest.raises(FileNotFoundError, match='no tools/brew.py in .*: install mmdet again'):
        shipped('tools/brew.py', 'mmdet')
