"""Kill trainings at random moments, resume them, and compare what comes out with undisturbed ones.

    python tools/dev/kill_training.py --coco128 COCO128 --work-root W --json OUT.json

Trains, with mmdet's tools/train.py and fixed seeds,

* `demo`: the demo's detector and config, shortened;
* `coco128`: a rehearsal of Table V's stem-L1 row, ResNet-50, on COCO128;
* `ranks`: the demo in two processes (gloo), of which one is killed, and the other ended as torchrun
  does;

sends SIGKILL to a process (often while a checkpoint is being written), looks at what
lies on the disk, sometimes cuts the newest checkpoint short as well, resumes with --resume, and so
on until the training is through; then once more from its beginning, until all kills are spent.
Every training's end is compared with that of an undisturbed one, bit by bit: weights, sigmas,
optimizer, losses of every iteration, validation metrics. At last a training on a full disk.

One thread a process, since sums in threads have no fixed order. Where mount is allowed to root
only: `unshare -rm python tools/dev/kill_training.py ...`.

Processes are forked from this one, which has imported what they need: they start within a second.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
DEMO = REPO / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'
ROW = 'faster-rcnn_r50-gm-stem-l1'

CONFIGS = {
    'demo': '''
_base_ = {demo!r}
train_cfg = dict(max_epochs={epochs}, val_interval={val_interval})
default_hooks = dict(logger=dict(interval=1))
''',
    # Each process has statistics of its own in its batch norms. They are averaged, or a checkpoint,
    # which is the first process's, would lose the others'.
    'ranks': '''
_base_ = {demo!r}
custom_imports = dict(
    imports=['gmconv_mmdet', 'tests.distributed.gloo_on_cpu'], allow_failed_imports=False)
model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                         find_unused_parameters=False)
custom_hooks = [dict(type='SigmaLogHook', interval=20), dict(type='SafeCheckpoints'),
                dict(type='ExactResumeHook'), dict(type='SyncBuffersHook')]
train_cfg = dict(max_epochs={epochs}, val_interval={val_interval})
train_dataloader = dict(batch_size=2)
default_hooks = dict(logger=dict(interval=1))
''',
}


class Launch:
    """One start of mmdet's train.py, in one process or several."""

    def __init__(self, arguments: list[str], log: Path, processes: int) -> None:
        self.begun = time.time()
        log.touch()
        self.log, self.log_begin = log, log.stat().st_size
        self.status: dict[int, int] = {}
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.pids = []
        for rank in range(processes):
            variables = {} if processes == 1 else dict(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
                MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
            launcher = [] if processes == 1 else ['--launcher', 'pytorch']
            self.pids.append(self._fork([*arguments, *launcher], variables))

    def _fork(self, arguments: list[str], variables: dict[str, str]) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ.update(variables)
            tool = mmdet_tool()
            sys.argv = [tool, *arguments]
            runpy.run_path(tool, run_name='__main__')
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def alive(self) -> bool:
        for pid in self.pids:
            if pid not in self.status:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.status[pid] = (os.WEXITSTATUS(status) if os.WIFEXITED(status)
                                        else -os.WTERMSIG(status))
        return len(self.status) < len(self.pids)

    def wait(self, seconds: float = math.inf) -> bool:
        """Whether it has ended within so many seconds."""
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
        return True

    def kill(self, victim: int) -> None:
        """SIGKILL for one process; the others are ended as torchrun ends them."""
        os.kill(self.pids[victim], signal.SIGKILL)
        for pid in self.pids:
            if pid != self.pids[victim] and pid not in self.status:
                os.kill(pid, signal.SIGTERM)
        if not self.wait(30):
            for pid in self.pids:
                if pid not in self.status:
                    os.kill(pid, signal.SIGKILL)
            self.wait()

    def output(self) -> str:
        with self.log.open('rb') as file:
            file.seek(self.log_begin)
            return file.read().decode(errors='replace')


def mmdet_tool() -> str:
    from gmconv_mmdet.openmmlab.mim_files import shipped
    return str(shipped('tools/train.py', 'mmdet'))


class Scenario:
    """A training to be disturbed."""

    def __init__(self, name: str, root: Path, config: Path, epochs: int, processes: int) -> None:
        self.name, self.root, self.config = name, root / name, config
        self.epochs, self.processes = epochs, processes
        self.root.mkdir(parents=True)
        self.startup = self.epoch_seconds = self.save_seconds = 0.0

    def launch(self, work_dir: Path) -> Launch:
        return Launch([str(self.config), '--work-dir', str(work_dir), '--resume'],
                      self.root / f'{work_dir.name}.log', self.processes)

    def undisturbed(self) -> Path:
        """Train without any kill, and measure how long what takes."""
        work_dir = self.root / 'undisturbed'
        begin, launch = time.monotonic(), self.launch(work_dir)
        part_seen, saved = None, {}  # monotonic times, in seconds
        while launch.alive():
            now = time.monotonic()
            if part_seen is None and parts(work_dir, launch.begun):
                part_seen = now
            for epoch in (1, self.epochs):
                if epoch not in saved and (work_dir / f'epoch_{epoch}.pth').exists():
                    saved[epoch] = now
            time.sleep(0.001)
        if set(launch.status.values()) != {0}:
            raise SystemExit(f'{self.name}: the undisturbed training failed:\n'
                             f'{launch.output()[-3000:]}')
        self.save_seconds = max(0.0, saved[1] - (part_seen or saved[1]))
        self.epoch_seconds = (saved[self.epochs] - saved[1]) / max(1, self.epochs - 1)
        self.startup = max(0.5, saved[1] - begin - self.epoch_seconds)
        return work_dir


def parts(work_dir: Path, since: float) -> list[Path]:
    """Checkpoints that are being written. A kill leaves such a file for the next launch to remove:
    only those written ``since`` (seconds since the epoch, as files have them) count."""
    found = []
    for path in work_dir.glob('.epoch_*.pth.part'):
        try:
            if path.stat().st_mtime >= since:
                found.append(path)
        except FileNotFoundError:  # renamed in between
            continue
    return found


def epoch_of(path: Path) -> int:
    return int(re.fullmatch(r'\.?epoch_(\d+)\.pth(\.part)?', path.name)[1])


def stage(work_dir: Path, launch: Launch) -> str:
    """What a process was at when it was killed."""
    if parts(work_dir, launch.begun):
        return 'writing a checkpoint'
    said = launch.output()
    if 'Epoch(val)' in said[said.rfind('Epoch(train)'):]:
        return 'validation'
    return 'training' if 'Epoch(train)' in said else 'starting'


def noted_epoch(work_dir: Path) -> int:
    return epoch_of(Path((work_dir / 'last_checkpoint').read_text()))


def whole_epochs(work_dir: Path) -> set[int]:
    from gmconv_mmdet.checkpoints.whole_checkpoint import is_whole_checkpoint
    return {epoch_of(path) for path in work_dir.glob('epoch_*.pth') if is_whole_checkpoint(path)}


def losses_on_disk(work_dir: Path, before: int, damaged: set[int]) -> list[str]:
    """What a kill has spoilt: nothing, if all is well."""
    present = {epoch_of(path) for path in work_dir.glob('epoch_*.pth')}
    whole = whole_epochs(work_dir)
    lost = [f'epoch_{epoch}.pth is not whole' for epoch in present - whole - damaged]
    if max(whole, default=0) < before:
        lost.append(f'epoch {before} was complete, now {sorted(whole)} are')
    pointer = work_dir / 'last_checkpoint'
    if pointer.exists() and not Path(pointer.read_text()).is_file():
        lost.append(f'last_checkpoint names {pointer.read_text()!r}')
    return lost


def disturb(scenario: Scenario, kills: int, rng: random.Random, share_cut: float) -> dict:
    """Kill and resume until all kills are spent and the last training is through."""
    record = dict(kills=0, resumes=0, trainings=0, checkpoints_cut_short=0, damage_reported=0,
                  epochs_lost=0, stages=Counter(), data_losses=[], protocol=[],
                  differences=[])
    while record['kills'] < kills:
        work_dir = scenario.root / f'killed{record["trainings"]}'
        record['trainings'] += 1
        train_through(scenario, work_dir, kills, rng, share_cut, record)
        found = compare(scenario.root / 'undisturbed', work_dir, scenario.epochs)
        record['equal'] = found['equal']
        record['differences'] += [f'{work_dir.name}: {text}' for text in found['different']]
        if not found['different']:
            shutil.rmtree(work_dir)
    return record


def train_through(scenario: Scenario, work_dir: Path, kills: int, rng: random.Random,
                  share_cut: float, record: dict) -> None:
    damaged: set[int] = set()
    newest, launches = 0, 0
    while True:
        noted_is_damaged = bool(damaged) and noted_epoch(work_dir) in damaged
        launch = scenario.launch(work_dir)
        launches += 1
        if launches > 1:
            record['resumes'] += 1
        if record['kills'] < kills:
            wait_for_moment(scenario, launch, work_dir, rng)
        else:
            launch.wait()
        if not launch.alive():
            if set(launch.status.values()) != {0}:
                record['data_losses'].append(f'a launch failed: {launch.output()[-1500:]}')
                return
            check_resume(launch.output(), newest, noted_is_damaged, record)
            return
        at = stage(work_dir, launch)
        launch.kill(rng.randrange(scenario.processes))
        record['kills'] += 1
        record['stages'][at] += 1
        said = launch.output()
        record['protocol'].append(dict(training=work_dir.name, stage=at, newest_epoch=newest,
                                       seconds=round(time.time() - launch.begun, 2)))
        check_resume(said, newest, noted_is_damaged, record)
        damaged &= {epoch_of(p) for p in work_dir.glob('epoch_*.pth')} - whole_epochs(work_dir)
        record['data_losses'] += losses_on_disk(work_dir, newest, damaged)
        whole = sorted(whole_epochs(work_dir))
        if len(whole) >= 2 and not damaged and rng.random() < share_cut:
            path = work_dir / f'epoch_{whole[-1]}.pth'
            os.truncate(path, int(rng.random() * path.stat().st_size))
            damaged.add(whole.pop())
            record['checkpoints_cut_short'] += 1
            record['protocol'][-1]['cut_short'] = path.name
        newest = max(whole, default=0)
        print(f'{scenario.name}: kill {record["kills"]} while {at}, epochs on disk: {whole}'
              + (f', cut short: {sorted(damaged)}' if damaged else ''), file=sys.stderr, flush=True)


def wait_for_moment(scenario: Scenario, launch: Launch, work_dir: Path,
                    rng: random.Random) -> None:
    """Until a random moment: of the launch, of its training, or of the writing of a checkpoint."""
    aim, = rng.choices(('launch', 'training', 'checkpoint'), (1, 2, 3))
    begins, seconds = {
        'launch': (lambda: True, scenario.startup + scenario.epoch_seconds),
        'training': (lambda: 'Epoch(train)' in launch.output(), 2 * scenario.epoch_seconds),
        'checkpoint': (lambda: parts(work_dir, launch.begun),
                       1.3 * scenario.save_seconds + 0.01)}[aim]
    while launch.alive() and not begins():
        time.sleep(0.002)
    launch.wait(rng.uniform(0, seconds))


def check_resume(said: str, newest: int, noted_is_damaged: bool, record: dict) -> None:
    """A launch that came as far as resuming must have taken the newest whole checkpoint, and must
    have told of a damaged one where that was noted as the last."""
    resumed = re.search(r'resumed epoch: (\d+)', said)
    if not resumed:
        return
    record['epochs_lost'] += max(0, newest - int(resumed[1]))
    if noted_is_damaged:
        if 'cut short or damaged' in said:
            record['damage_reported'] += 1
        else:
            record['data_losses'].append('a checkpoint cut short was not reported')


def final_metrics(work_dir: Path) -> dict:
    """Metrics of every validation, by epoch, the last of each; from MMEngine's own log."""
    found = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # cut off by a kill
                continue
            if 'coco/bbox_mAP' in entry:
                found[entry['step']] = {name: value for name, value in entry.items()
                                        if name.startswith('coco/')}
    return found


def leaves(node, name=''):
    """All numbers and tensors in nested dicts and lists, with their paths."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f'{name}/{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from leaves(value, f'{name}/{i}')
    else:
        yield name, node


def compare(undisturbed: Path, disturbed: Path, epoch: int) -> dict:
    """Bit by bit. Returns how many values were compared, and what differs."""
    import torch

    from gmconv_mmdet.checkpoints import read_checkpoint
    try:
        ends = [read_checkpoint(folder / f'epoch_{epoch}.pth')
                for folder in (undisturbed, disturbed)]
    except FileNotFoundError as error:
        return dict(equal={}, different=[str(error)])

    def parts_of(end, folder):
        histories = {name: [float(value) for value in buffer.data[0]]
                     for name, buffer in end['message_hub']['log_scalars'].items()}
        weights = end['state_dict']
        return dict(
            weights=weights, sigmas={n: w for n, w in weights.items() if 'sigma' in n},
            optimizer=dict(leaves(end['optimizer'])),
            losses={n: h for n, h in histories.items()
                    if n.startswith('train/') and 'time' not in n},
            metrics=dict(leaves([final_metrics(folder), {
                n: h for n, h in histories.items()
                if n.startswith('val/') and 'time' not in n}])))

    def same(a, b):
        if isinstance(a, torch.Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        return a == b or (a != a and b != b)

    counts, different = {}, []
    first, second = (parts_of(end, folder)
                     for end, folder in zip(ends, (undisturbed, disturbed)))
    for part, values in first.items():
        names = set(values) | set(second[part])
        unlike = [name for name in sorted(names) if name not in values or name not in second[part]
                  or not same(values[name], second[part][name])]
        counts[part] = sum(v.numel() if isinstance(v, torch.Tensor) else
                           len(v) if isinstance(v, list) else 1 for v in values.values())
        if unlike:
            different.append(f'{part}: {len(unlike)} of {len(names)} differ, as {unlike[0]}')
    return dict(equal=counts, different=different)


def full_disk(scenario: Scenario) -> dict:
    """Train on a disk with room for one and a half checkpoints, make room, resume."""
    work_dir = scenario.root / 'full'
    work_dir.mkdir()
    undisturbed = scenario.root / 'undisturbed'
    size = (undisturbed / f'epoch_{scenario.epochs}.pth').stat().st_size
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={int(1.5 * size)}', 'none', str(work_dir)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        return dict(tried=False, why=mounted.stderr.strip())
    try:
        launch = scenario.launch(work_dir)
        launch.wait()
        said = launch.output()
        message = re.search(r'OSError: .*could not be written.*', said)
        record = dict(tried=True, failed=set(launch.status.values()) != {0},
                      message=message[0].replace(str(work_dir), 'W') if message else None,
                      whole_epochs=sorted(whole_epochs(work_dir)), parts=len(parts(work_dir, 0)))
        subprocess.run(['mount', '-o', f'remount,size={8 * size}', str(work_dir)], check=True)
        launch = scenario.launch(work_dir)
        launch.wait()
        record['resumed'] = set(launch.status.values()) == {0}
        record['different'] = compare(undisturbed, work_dir, scenario.epochs)['different']
        return record
    finally:
        subprocess.run(['umount', '-l', str(work_dir)], check=True)  # still mapped by torch


def write_demo(name: str, root: Path, epochs: int) -> Path:
    path = root / f'{name}.py'
    path.write_text(CONFIGS[name].format(demo=str(DEMO), epochs=epochs,
                                         val_interval=max(2, epochs // 2)))
    return path


def write_rehearsal(root: Path, coco128: Path, epochs: int) -> Path:
    from gmconv_mmdet.lab.reproduce.table import (
        RunOptions,
        find_coco_folder,
        run_config,
        select_rows,
    )
    row, = select_rows('V', [ROW])
    cfg = run_config(row, 0, RunOptions(data=find_coco_folder(coco128), rehearsal=True))
    cfg.train_cfg.update(max_epochs=epochs, val_begin=1, val_interval=2)
    cfg.dump(str(root / 'coco128.py'))
    return root / 'coco128.py'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--coco128', type=Path, help='without it the COCO128 rehearsal is left out')
    parser.add_argument('--work-root', type=Path, required=True, help='must not exist yet')
    parser.add_argument('--kills', type=int, nargs=3, default=(28, 8, 14),
                        metavar=('DEMO', 'COCO128', 'RANKS'), help='default: %(default)s')
    parser.add_argument('--epochs', type=int, nargs=3, default=(8, 5, 8),
                        metavar=('DEMO', 'COCO128', 'RANKS'), help='default: %(default)s')
    parser.add_argument('--images', type=int, nargs=2, default=(12, 6), metavar=('TRAIN', 'VAL'),
                        help='of the demo; default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='of the random moments')
    parser.add_argument('--share-cut', type=float, default=0.2,
                        help='kills after which the newest checkpoint is cut short too')
    parser.add_argument('--no-full-disk', action='store_true')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    begin = time.monotonic()
    root = args.work_root.resolve()
    root.mkdir(parents=True)
    # What forked processes find done: numbers of threads, and imports.
    os.environ.update(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', MPLBACKEND='Agg',
                      GMCONV_DEMO_DATA=str(root / 'shapes'))
    sys.path.insert(0, str(REPO))
    import mmdet.apis  # noqa: F401
    import mmdet.models  # noqa: F401

    from gmconv_mmdet.lab.demo.shapes import make_shapes
    make_shapes(root / 'shapes', *args.images)

    scenarios = []
    for name, kills, epochs, processes in zip(('demo', 'coco128', 'ranks'), args.kills,
                                              args.epochs, (1, 1, 2)):
        if kills == 0 or (name == 'coco128' and args.coco128 is None):
            continue
        config = (write_rehearsal(root, args.coco128.resolve(), epochs) if name == 'coco128' else
                  write_demo(name, root, epochs))
        scenarios.append((Scenario(name, root, config, epochs, processes), kills))
    report, rng = {}, random.Random(args.seed)
    for scenario, _ in scenarios:
        scenario.undisturbed()
        print(f'{scenario.name}: start {scenario.startup:.1f} s, epoch {scenario.epoch_seconds:.1f}'
              f' s, checkpoint {scenario.save_seconds:.2f} s', file=sys.stderr, flush=True)
    for scenario, kills in scenarios:
        record = disturb(scenario, kills, rng, args.share_cut)
        if scenario.name == 'demo' and not args.no_full_disk:
            record['full_disk'] = full_disk(scenario)
        report[scenario.name] = record
    faults = closing(report, time.monotonic() - begin)
    if args.json:
        args.json.write_text(json.dumps(dict(
            command='python tools/dev/kill_training.py', seed=args.seed, epochs=args.epochs,
            images=args.images, seconds=round(time.monotonic() - begin),
            environment=environment(), scenarios=report), indent=1) + '\n')
    return 1 if faults else 0


def environment() -> dict:
    import mmcv
    import mmdet
    import mmengine
    import numpy
    import torch
    return dict(python=sys.version.split()[0], cores=os.cpu_count(), numpy=numpy.__version__,
                **{module.__name__: str(module.__version__)
                   for module in (torch, mmcv, mmdet, mmengine)})


def closing(report: dict, seconds: float) -> list[str]:
    """Print the table and the closing line; returns what went wrong."""
    faults = []
    print('| training | kills | of them starting / training / validation / writing a checkpoint | '
          'resumes | checkpoints cut short | trainings | compared: weights, sigmas, optimizer, '
          'losses, metrics | differing |')
    print('| --- | --- | --- | --- | --- | --- | --- | --- |')
    for name, record in report.items():
        stages = ' / '.join(str(record['stages'].get(stage, 0)) for stage in (
            'starting', 'training', 'validation', 'writing a checkpoint'))
        print(f'| {name} | {record["kills"]} | {stages} | {record["resumes"]} | '
              f'{record["checkpoints_cut_short"]} | {record["trainings"]} | '
              f'{", ".join(f"{count:,}" for count in record["equal"].values())} | '
              f'{len(record["differences"])} |')
        faults += [f'{name}: {text}' for text in record['data_losses'] + record['differences']]
        disk = record.get('full_disk')
        if disk:
            print(f'\nFull disk ({name}): {json.dumps(disk)}\n', file=sys.stderr)
            if disk['tried'] and not (disk['failed'] and disk['message'] and disk['resumed']
                                      and disk['whole_epochs'] and not disk['different']):
                faults.append(f'{name}: full disk: {disk}')
    total = {key: sum(record[key] for record in report.values())
             for key in ('kills', 'resumes', 'checkpoints_cut_short', 'epochs_lost')}
    lost = sum(len(record['data_losses']) for record in report.values())
    unlike = sum(len(record['differences']) for record in report.values())
    for fault in faults:
        print(f'FAULT {fault}')
    print(f'\n{total["kills"]} kills, {total["resumes"]} resumes, '
          f'{total["checkpoints_cut_short"]} checkpoints cut short besides; '
          f'losses of data: {lost}; complete epochs trained again: {total["epochs_lost"]}; '
          + ('end states: all bit-equal to the undisturbed ones' if not unlike else
             f'end states: {unlike} DIFFER')
          + f'. {seconds / 60:.1f} minutes.')
    return faults


if __name__ == '__main__':
    sys.exit(main())
