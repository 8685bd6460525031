import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def repo() -> Path:
    """The project's folder."""
    return REPO


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder with coco128/ and cifar10_{train,test}.npz; where it is absent the test is skipped."""
    folder = Path(os.environ.get('GMCONV_SHARED_DATA') or REPO.parent / 'shared' / 'data')
    if not folder.is_dir():
        pytest.skip(f'no data in {folder} (GMCONV_SHARED_DATA names another folder)')
    return folder
