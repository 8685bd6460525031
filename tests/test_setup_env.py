"""tools/setup_env.sh and run_tests.sh, run as a user runs them, with faults put in their way."""
from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmconv_mmdet import doctor

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason='set-up makes environments with '
                                'Python 3.10 and newer')

STAMP = '.gmconv_setup'
# What the tests run in, and the other one.
STACK, OTHER_STACK = (('onedl', 'default') if doctor.installed_stack() is doctor.ONEDL
                      else ('default', 'onedl'))
AWKWARD_NAME = 'it\'s a "venv"'


def executable(path: Path, script: str) -> Path:
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def bare_path(folder: Path, *left_out: str) -> str:
    """A PATH with ordinary commands, this Python as python3, and none of `left_out`."""
    folder.mkdir()
    commands = ('awk bash cat df dirname find grep ls mkdir mv rm sed sleep uname '
                'c++ g++ clang++ cc gcc ld as').split()
    for command in commands:
        found = shutil.which(command)
        if found and command not in left_out:
            (folder / command).symlink_to(found)
    executable(folder / 'python3', f'exec "{sys.executable}" "$@"')
    return str(folder)


def environment(**changes: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ('CXX', 'GMCONV_PYTHON')}
    # Where a set-up gets as far as pip, it must not download three gigabytes.
    return {**inherited, 'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': '', **changes}


def set_up(repo: Path, *args: str, cwd: Path | None = None, **changes: str):
    return subprocess.run(['bash', str(repo / 'tools' / 'setup_env.sh'), *args], text=True, cwd=cwd,
                          capture_output=True, env=environment(**changes))


def test_missing_compiler_names_the_packages(repo, tmp_path):
    path = bare_path(tmp_path / 'bin', 'c++', 'g++', 'clang++', 'cc', 'gcc')
    done = set_up(repo, PATH=path, GMCONV_VENV=str(tmp_path / 'venv'))
    assert done.returncode == 1
    assert 'no working C++17 compiler' in done.stderr
    for command in ('apt install g++', 'dnf install gcc-c++', 'xcode-select --install'):
        assert command in done.stderr
    assert not (tmp_path / 'venv').exists()


def test_unfit_pythons_are_listed_with_the_reason(repo, tmp_path):
    path = bare_path(tmp_path / 'bin')
    executable(tmp_path / 'bin' / 'python3', 'echo 3.8')
    executable(tmp_path / 'bin' / 'python3.12', 'exit 127')  # as pyenv's shims do
    done = set_up(repo, PATH=path, GMCONV_VENV=str(tmp_path / 'venv'))
    assert done.returncode == 1
    assert 'Python 3.10, 3.11 or 3.12 is needed' in done.stderr
    assert 'python3: is Python 3.8' in done.stderr
    assert 'python3.12: does not run' in done.stderr
    assert 'python3.10: not found' in done.stderr
    assert 'GMCONV_PYTHON=' in done.stderr


def test_python_of_another_version_than_the_venv_is_refused(repo, tmp_path):
    (tmp_path / 'venv' / 'bin').mkdir(parents=True)
    executable(tmp_path / 'venv' / 'bin' / 'python', 'echo 3.9')
    done = set_up(repo, GMCONV_PYTHON=sys.executable, GMCONV_VENV=str(tmp_path / 'venv'))
    assert done.returncode == 1
    assert 'has Python 3.9, and GMCONV_PYTHON is Python %d.%d' % sys.version_info[:2] in done.stderr


@pytest.mark.slow
def test_full_disk_says_how_much_is_needed(repo, tmp_path):
    path = bare_path(tmp_path / 'bin', 'df')
    executable(tmp_path / 'bin' / 'df',
               'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"\n'
               'echo "/dev/my disk 9000000 5000000 3500000 59% /mnt/my disk"')
    done = set_up(repo, PATH=path, GMCONV_VENV=str(tmp_path / 'venv'))
    assert done.returncode == 1
    assert '10 GiB of disk space are needed' in done.stderr
    assert '3 GiB are free' in done.stderr
    assert 'GMCONV_VENV=' in done.stderr


@pytest.mark.slow
def test_folder_of_somebody_else_stays_as_it_is(repo, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('precious')
    done = set_up(repo, GMCONV_VENV=str(tmp_path / 'mine'))
    assert done.returncode == 1 and 'was not made by this script' in done.stderr
    assert [p.name for p in (tmp_path / 'mine').iterdir()] == ['thesis.txt']


def test_unknown_argument(repo):
    done = set_up(repo, '--fast')
    assert done.returncode == 1 and "unknown argument '--fast'" in done.stderr


def test_environment_of_the_other_stack_stays_as_it_is(repo, finished_venv):
    before = Path(finished_venv, STAMP).read_bytes()
    done = set_up(repo, '--stack', OTHER_STACK, GMCONV_VENV=finished_venv)
    assert done.returncode == 1 and f"belongs to another stack than '{OTHER_STACK}'" in done.stderr
    assert Path(finished_venv, STAMP).read_bytes() == before


@pytest.mark.slow
def test_without_network_it_says_so_and_the_next_call_goes_on(repo, tmp_path):
    # A relative, awkward path counts from where the user stands.
    first = set_up(repo, cwd=tmp_path, GMCONV_VENV=AWKWARD_NAME)
    assert first.returncode == 1
    assert 'pip could not install' in first.stderr and 'network' in first.stderr
    venv = tmp_path / AWKWARD_NAME
    made = (venv / 'bin' / 'python').lstat().st_ctime_ns
    assert 'unfinished' in (venv / STAMP).read_text()
    # The environment is kept ...
    second = set_up(repo, cwd=tmp_path, GMCONV_VENV=AWKWARD_NAME)
    assert second.returncode == 1 and 'pip could not install' in second.stderr
    assert (venv / 'bin' / 'python').lstat().st_ctime_ns == made
    # ... unless an interrupt left it half made.
    shutil.rmtree(next((venv / 'lib').glob('python3*')) / 'site-packages' / 'pip')
    third = set_up(repo, cwd=tmp_path, GMCONV_VENV=AWKWARD_NAME)
    assert third.returncode == 1 and 'pip could not install' in third.stderr
    subprocess.run([venv / 'bin' / 'python', '-c', 'import pip'], check=True)


@pytest.mark.slow
def test_interrupt_gives_one_message_and_leaves_a_lock_to_nobody(repo, tmp_path):
    path = bare_path(tmp_path / 'bin', 'df')
    executable(tmp_path / 'bin' / 'df', f'touch "{tmp_path}/asked"; sleep 60')
    (tmp_path / 'bin' / 'touch').symlink_to(shutil.which('touch'))
    process = subprocess.Popen(
        ['bash', str(repo / 'tools' / 'setup_env.sh')], text=True, start_new_session=True,
        stderr=subprocess.PIPE, env=environment(PATH=path, GMCONV_VENV=str(tmp_path / 'venv')))
    while not (tmp_path / 'asked').exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr.count('Set-up interrupted. Run the same command again') == 1
    (tmp_path / 'bin' / 'df').unlink()
    executable(tmp_path / 'bin' / 'df', 'echo "/dev/disk 9 9 0 100% /"')
    again = set_up(repo, PATH=path, GMCONV_VENV=str(tmp_path / 'venv'))
    assert '10 GiB of disk space are needed' in again.stderr
    assert 'waiting' not in again.stderr


@pytest.fixture
def finished_venv() -> str:
    if not Path(sys.prefix, STAMP).exists():
        pytest.skip('these tests do not run in an environment of tools/setup_env.sh')
    return sys.prefix


@pytest.mark.slow
def test_second_call_has_nothing_to_do(repo, tmp_path, finished_venv):
    # The first brings an environment up to date whose requirements or packages were changed since.
    assert set_up(repo, '--stack', STACK, GMCONV_VENV=finished_venv).returncode == 0
    stamp = Path(finished_venv, STAMP)
    before = stamp.stat().st_mtime_ns
    done = set_up(repo, '--stack', STACK, cwd=tmp_path, GMCONV_VENV=finished_venv)
    assert done.returncode == 0 and done.stdout == ''
    assert done.stderr == f'Environment ready: {finished_venv}\n'
    quiet = set_up(repo, '--print-python', '--stack', STACK, cwd=tmp_path,
                   GMCONV_VENV=finished_venv)
    assert (quiet.stdout, quiet.stderr) == (f'{finished_venv}/bin/python\n', '')
    assert stamp.stat().st_mtime_ns == before


@pytest.mark.slow
def test_run_tests_passes_arguments_on_and_ends_with_the_summary(repo, tmp_path, finished_venv):
    done = subprocess.run(
        ['bash', str(repo / 'tools' / 'run_tests.sh'), '--stack', STACK, '-k',
         'test_unknown_argument', 'tests/test_setup_env.py'], cwd=tmp_path, text=True, capture_output=True,
        env=environment(GMCONV_VENV=finished_venv))
    assert done.returncode == 0, done.stdout + done.stderr
    assert '1 passed' in done.stdout.splitlines()[-1]
