"""Compile mmcv with its ops, once per machine, and print the path of the wheel.

    python tools/dev/build_mmcv.py --constraints requirements/constraints.txt mmcv

Called by tools/setup_env.sh with the environment's Python, which must hold torch, setuptools,
wheel and ninja. Progress goes to stderr, the wheel's path to stdout.

pip's wheel cache does not know which torch a wheel was compiled against. Ours,
`$XDG_CACHE_HOME/gmconv_mmdet/wheels/<key>/` (`~/.cache` by default), has the versions of mmcv, torch,
CUDA and Python in the key. An interrupted build goes on next time.
"""
from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Iterator, NamedTuple

NEEDED_GIB = 2
GIB_PER_JOB = 1.5
# Switches of mmcv's setup.py for accelerators that set-up does not build for.
OTHER_DEVICES = ('FORCE_MLU', 'FORCE_MPS', 'FORCE_NPU', 'MMCV_WITH_DIOPI')


class BuildError(Exception):
    """The build cannot go on; the text says why and what to do."""


class Cuda(NamedTuple):
    version: str  # of torch's CUDA, '13.0'
    archs: str  # compute capabilities of the visible GPUs, '8.0;9.0'
    home: str  # toolkit folder, holds bin/nvcc


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def pinned_version(constraints: Path, name: str) -> str:
    """Version of the line `name==version` in a constraints file."""
    pin = re.search(rf'^{re.escape(name)}==(\S+)$', constraints.read_text(), re.MULTILINE)
    if pin is None:
        raise BuildError(f'{constraints} has no line "{name}==<version>".')
    return pin[1]


def usable_cuda() -> Cuda | None:
    """What to build CUDA ops for, or None where only CPU ops can be built or used."""
    import torch
    if not torch.cuda.is_available() or torch.version.cuda is None:
        return None
    from torch.utils.cpp_extension import CUDA_HOME
    nvcc = Path(CUDA_HOME or '', 'bin', 'nvcc')
    release = None
    if CUDA_HOME and nvcc.exists():
        report = subprocess.run([str(nvcc), '--version'], capture_output=True, text=True)
        release = re.search(r'release (\d+)\.', report.stdout)
    wanted = torch.version.cuda
    if release is None or release[1] != wanted.split('.')[0]:
        found = f'nvcc of CUDA {release[1]}' if release else 'no nvcc'
        say(f'A GPU is here, but {found}: mmcv gets its CPU ops only, and detectors run on the '
            f'CPU.\nTo use the GPU install the CUDA {wanted} toolkit, set CUDA_HOME to its folder '
            'and run this again.')
        return None
    capabilities = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    archs = ';'.join(f'{major}.{minor}' for major, minor in sorted(capabilities))
    return Cuda(wanted, archs, CUDA_HOME)


def wheel_key(name: str, version: str, torch_version: str, cuda: Cuda | None) -> str:
    """Folder name that tells apart wheels which cannot replace each other."""
    ops = 'cpu' if cuda is None else f'cu{cuda.version}-sm{cuda.archs.replace(";", "-")}'
    # SOABI: interpreter, its version and ABI, architecture, system; 'cpython-311-x86_64-linux-gnu'.
    return f'{name}-{version}_torch-{torch_version}_{ops}_{sysconfig.get_config_var("SOABI")}'


def wheel_folder(key: str) -> Path:
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(cache, 'gmconv_mmdet', 'wheels', key)


def finished_wheel(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob('*.whl'))), None)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a lock file; yields its descriptor, which child processes must inherit: the lock then
    outlives this process as long as a compiler of its is still writing."""
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'Another build of mmcv is under way in {path.parent}: waiting for it.')
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def build_environment(cuda: Cuda | None) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if k not in OTHER_DEVICES}
    env['MMCV_WITH_OPS'] = '1'
    # torch looks for ninja on PATH; the environment need not be activated.
    env['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), env.get('PATH', '')])
    # Python's own flags ask for debug symbols: a third of the time and nearly all of the size.
    # CPPFLAGS are added to those flags, CFLAGS and CXXFLAGS would replace them, -O3 included.
    env['CPPFLAGS'] = f'{env.get("CPPFLAGS", "")} -g0'.strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    memory_gib = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30
    env.setdefault('MAX_JOBS', str(max(1, min(cores or 1, int(memory_gib / GIB_PER_JOB)))))
    if cuda is None:
        # mmcv builds CUDA ops wherever torch sees a GPU, with or without nvcc: hide the GPU.
        env.update(FORCE_CUDA='0', CUDA_VISIBLE_DEVICES='')
    else:
        env.update(FORCE_CUDA='1', TORCH_CUDA_ARCH_LIST=cuda.archs, CUDA_HOME=cuda.home)
        # Headers of the libraries that a bare toolkit lacks (cusparse, ...) came with torch.
        # Searched after the toolkit's own.
        bundled = Path(sysconfig.get_path('purelib'), 'nvidia', f'cu{cuda.version.split(".")[0]}',
                       'include')
        if bundled.is_dir():
            paths = [env.get('CPLUS_INCLUDE_PATH'), str(bundled)]
            env['CPLUS_INCLUDE_PATH'] = os.pathsep.join(filter(None, paths))
    return env


def fetch_source(name: str, version: str, hashes: Path | None, target: Path, env: dict[str, str],
                 log: Path) -> None:
    """Unpack the source package into `target`, which appears complete or not at all."""
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        with open(log, 'a') as out:
            status = subprocess.run(
                [sys.executable, '-m', 'pip', 'download', '--no-deps', '--no-build-isolation',
                 '--no-cache-dir', '--no-binary', name, '--dest', scratch, f'{name}=={version}',
                 *(() if hashes is None else ('-c', str(hashes)))],
                env=env, stdout=out, stderr=out).returncode
        archives = list(Path(scratch).glob('*.tar.gz'))
        if status or not archives:
            raise BuildError(f'pip could not download the source of {name} {version}:\n'
                             f'{tail(log)}\nCheck the network connection, then run this again. '
                             f'Full log: {log}')
        unpacked = Path(scratch, 'unpacked')
        shutil.unpack_archive(str(archives[0]), str(unpacked))
        os.rename(next(unpacked.iterdir()), target)


def tail(log: Path, lines: int = 15) -> str:
    return '\n'.join(log.read_text(errors='replace').splitlines()[-lines:])


class Progress:
    """One line, rewritten on a terminal; elsewhere a line every half minute."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.start = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self.terminal and now - self.shown < 30 and done < total:
            return
        self.shown = now
        minutes, seconds = divmod(int(now - self.start), 60)
        text = f'{self.name} ops: {done} of {total} files, {minutes} min {seconds:02d} s'
        print(f'\r{text}  ' if self.terminal else text, end='' if self.terminal else '\n',
              file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.terminal:
            say('')


class PrecompiledHeader:
    """Has torch's headers parsed once instead of once a file, which is most of the build's time.

    g++ takes `pytorch_cpp_helper.hpp.gch`, compiled with the same flags, where a source file
    includes mmcv's `pytorch_cpp_helper.hpp` first, as nearly all do. It is made beside the build,
    with the flags of the first command that ninja shows. Where it cannot be made or does not fit,
    every file parses the headers as before.
    """

    def __init__(self, source: Path, env: dict[str, str]) -> None:
        self.header = source / 'mmcv' / 'ops' / 'csrc' / 'common' / 'pytorch_cpp_helper.hpp'
        self.unfinished = self.header.with_suffix('.unfinished')
        self.env = env
        self.compiler: subprocess.Popen | None = None

    def update(self, line: str) -> None:
        """Take a line that ninja printed: start the compiler, or put its result into use."""
        if self.compiler is None:
            shown = re.match(r'\s*\[\d+/\d+\] (.+) -c \S+\.cpp -o \S+\.o (.+)', line)
            if shown and self.header.exists():
                flags = shlex.split(re.sub(r' -MMD -MF \S+', '', shown[1])) + shlex.split(shown[2])
                self.compiler = subprocess.Popen(
                    [*flags, '-x', 'c++-header', str(self.header), '-o', str(self.unfinished)],
                    env=self.env, start_new_session=True, stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        elif self.compiler.poll() == 0 and self.unfinished.exists():
            os.replace(self.unfinished, f'{self.header}.gch')

    def close(self) -> None:
        if self.compiler is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.compiler.pid, signal.SIGTERM)
            self.compiler.wait()


def compile_wheel(name: str, source: Path, env: dict[str, str], log: Path, lock: int) -> Path:
    """Run the package's `setup.py bdist_wheel`; ninja takes up object files of an earlier run."""
    progress = Progress(name)
    header = PrecompiledHeader(source, env)
    # A session of its own, so that an interrupt can end compilers and all.
    build = subprocess.Popen(
        [sys.executable, 'setup.py', 'bdist_wheel'], cwd=source, env=env, pass_fds=(lock,),
        start_new_session=True, text=True, errors='replace',
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with open(log, 'a') as out:
            for line in build.stdout:
                out.write(line)
                header.update(line)
                step = re.match(r'\s*\[(\d+)/(\d+)\]', line)
                if step:
                    progress.update(int(step[1]), int(step[2]))
        status = build.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(build.pid, signal.SIGTERM)
        build.wait()
        raise
    finally:
        header.close()
        progress.close()
    wheel = finished_wheel(source / 'dist')
    if status or wheel is None:
        hint = ('To do without CUDA ops, run this again with CUDA_VISIBLE_DEVICES= (empty).\n'
                if env['FORCE_CUDA'] == '1' else '')
        raise BuildError(f'compiling {name} failed. The last lines of the log:\n\n{tail(log)}\n\n'
                         f'{hint}Full log: {log}\nWhat was compiled is kept: once the cause is '
                         'mended, run this again.')
    with zipfile.ZipFile(wheel) as content:
        if not any(re.search(r'/_ext\..*so$', entry) for entry in content.namelist()):
            raise BuildError(f'{name} was built without its compiled ops. Full log: {log}')
    return wheel


def build_wheel(name: str, version: str, hashes: Path | None = None) -> Path:
    """The wheel from the cache, built first where it is not there.

    Args:
        hashes (Path | None): a constraints file whose hashes the source package must meet.

    Raises:
        BuildError: the source cannot be fetched or compiled, or the disk is full.
    """
    cuda = usable_cuda()
    key = wheel_key(name, version, importlib.metadata.version('torch'), cuda)
    folder = wheel_folder(key)
    folder.mkdir(parents=True, exist_ok=True)
    wheel = finished_wheel(folder)
    if wheel is not None:
        return wheel
    # One lock for all builds: each takes every core, and memory for as many compilers.
    with locked(folder.parent / 'lock') as lock:
        wheel = finished_wheel(folder)
        if wheel is not None:
            return wheel
        free = shutil.disk_usage(folder).free / 2**30
        if free < NEEDED_GIB:
            raise BuildError(f'building {name} needs {NEEDED_GIB} GiB in {folder}, and '
                             f'{free:.1f} GiB are free. Free some, or set XDG_CACHE_HOME to a '
                             'folder on a larger disk.')
        work = folder / 'build'
        work.mkdir(exist_ok=True)
        log = folder / 'build.log'
        log.write_text('')
        env = build_environment(cuda)
        ops = 'CPU' if cuda is None else f'CPU and CUDA {cuda.version}'
        say(f'Compiling {name} {version} with {ops} ops on {env["MAX_JOBS"]} cores (about 10 '
            f'minutes on two cores for the CPU ops; once per machine).\nLog: {log}')
        fetch_source(name, version, hashes, work / 'source', env, log)
        built = compile_wheel(name, work / 'source', env, log, lock)
        wheel = folder / built.name
        os.replace(built, wheel)
        shutil.rmtree(work)
        return wheel


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('name', help='name of the source package, as in the constraints file')
    parser.add_argument('--constraints', type=Path, required=True, help='pins its version')
    parser.add_argument('--hashes', type=Path,
                        help='constraints file with hashes that the source package must meet')
    args = parser.parse_args()
    # SIGTERM ends the compilers as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(build_wheel(args.name, pinned_version(args.constraints, args.name), args.hashes))
    except BuildError as error:
        say(f'\n{error}')
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
