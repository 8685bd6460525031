from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.utils import ManagerMixin

from gmconv_mmdet.torch_version import NewerTorchNeeded

REPO = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start: a job in the background of a shell or under
    nohup ignores it, and hands that on to its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """What is nightly is slow, too: ``-m "not slow"`` leaves it out."""
    for item in items:
        if item.get_closest_marker('nightly'):
            item.add_marker('slow')


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem) -> Iterator[None]:
    """A test of something that this torch truly lacks is skipped, with the library's own words."""
    _skip_where_torch_is_too_old((yield))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item) -> Iterator[None]:
    """So is a test whose fixtures need it."""
    _skip_where_torch_is_too_old((yield))


def _skip_where_torch_is_too_old(outcome) -> None:
    if outcome.excinfo and issubclass(outcome.excinfo[0], NewerTorchNeeded):
        outcome.force_exception(pytest.skip.Exception(str(outcome.excinfo[1]), _use_item_location=True))


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


def _manager_classes(cls: type) -> list[type]:
    return [cls, *(inner for sub in cls.__subclasses__() for inner in _manager_classes(sub))]


def _own_mmengine_globals() -> Iterator[None]:
    kept = [(cls, cls._instance_dict.copy()) for cls in _manager_classes(ManagerMixin)]
    yield
    for cls in _manager_classes(ManagerMixin):
        cls._instance_dict.clear()
    for cls, instances in kept:
        cls._instance_dict.update(instances)


# What a test makes of MMEngine's process-wide instances is forgotten after it: the default scope,
# message hubs, loggers and visualizers, of which two runners made within a second would share one.
# The second one is for what a module's own fixtures make.
own_mmengine_globals = pytest.fixture(_own_mmengine_globals, autouse=True)
own_mmengine_globals_of_module = pytest.fixture(_own_mmengine_globals, scope='module', autouse=True)
