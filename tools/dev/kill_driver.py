"""Kill the driver again and again, and see that it loses and repeats nothing.

    python tools/dev/kill_driver.py --data-root COCO128 --work-root W --kills 12

Rehearses Table V (all fourteen rows unless --rows says fewer) and sends SIGKILL to the driver, and
to nothing else, at random moments. Then lets it finish, checks what lies on disk, writes the report
and prints what happened, as Markdown. All fourteen rows take a quarter of an hour on two
idle CPU cores.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / 'tools' / 'reproduce.py'


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    with log.open('ab') as output:
        return subprocess.Popen([sys.executable, str(TOOL), *arguments], stdout=output,
                                stderr=subprocess.STDOUT, env=dict(os.environ, MPLBACKEND='Agg'))


def launches(folder: Path) -> list[dict]:
    path = folder / 'launches.jsonl'
    lines = path.read_text().split('\n') if path.exists() else []
    return [entry for line in lines if (entry := as_json(line)) is not None]


def as_json(line: str) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def results(root: Path) -> dict[str, tuple[int, bytes]]:
    """Finished runs: folder name -> (time of its result file, its content)."""
    return {path.parent.name: (path.stat().st_mtime_ns, path.read_bytes())
            for path in root.glob('*/result.json')}


def doing(root: Path) -> str:
    """What the newest launch of all is about, for the protocol of kills."""
    newest = max((dict(entry, run=folder.name) for folder in root.glob('*-seed*')
                  for entry in launches(folder)), key=lambda entry: entry['time'], default=None)
    if newest is None:
        return 'starting'
    what = f'{newest["phase"]} of {newest["run"]}'
    return what if newest['event'] == 'start' else f'after {what}'


def wait_for_children(root: Path, seconds: float = 30) -> None:
    """A killed driver's child must end by itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        alive = [entry['pid'] for folder in root.glob('*-seed*') for entry in launches(folder)
                 if entry['event'] == 'start' and runs_train_or_test(entry['pid'])]
        if not alive:
            return
        time.sleep(0.1)
    raise AssertionError(f'processes {alive} outlived their driver by {seconds} s')


def runs_train_or_test(pid: int) -> bool:
    try:
        return re.search(rb'tools/(train|test)\.py', Path(f'/proc/{pid}/cmdline').read_bytes()
                         ) is not None
    except OSError:
        return False


def check_runs(root: Path) -> list[str]:
    """Faults of finished runs: work that was done twice, or not at all."""
    faults = []
    for path in sorted(root.glob('*/result.json')):
        entries = launches(path.parent)
        name = path.parent.name
        ends = Counter((e['phase'], e.get('status')) for e in entries if e['event'] == 'end')
        starts = [e for e in entries if e['event'] == 'start']
        # A launch that ended well is never repeated: two trainings (before and after the
        # rehearsal's resume) and one test. A kill between an epoch's checkpoint and the end of its
        # process saves the launch its end, hence "at most".
        if ends['train', 0] > 2 or ends['test', 0] > 1:
            faults.append(f'{name}: finished work was repeated: {dict(ends)}')
        if any(status != 0 for _, status in ends):
            faults.append(f'{name}: a launch failed: {dict(ends)}')
        epochs = [e['after_epoch'] for e in starts if e['phase'] == 'train']
        if epochs != sorted(epochs):
            faults.append(f'{name}: an epoch with a checkpoint was trained again: {epochs}')
        if not starts or starts[-1]['phase'] != 'test' or 1 not in epochs:
            faults.append(f'{name}: no resume or no test: {starts}')
        result = json.loads(path.read_text())
        if any(entry['time'] > result['finished'] for entry in entries):
            faults.append(f'{name}: launched again when it was finished')
        if not (path.parent / result['files']['checkpoint']).is_file() or not result['rehearsal']:
            faults.append(f'{name}: not a rehearsal with a checkpoint')
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', required=True)
    parser.add_argument('--work-root', type=Path, required=True)
    parser.add_argument('--rows', nargs='+')
    parser.add_argument('--kills', type=int, default=12)
    parser.add_argument('--row-seconds', type=float, default=60,
                        help='about what a row takes, until the first is measured')
    parser.add_argument('--seed', type=int, default=0, help='of the random moments')
    args = parser.parse_args()
    rng = random.Random(args.seed)
    root = args.work_root / 'rehearsal'
    common = ['--table', 'V', '--rehearse', '--work-root', str(args.work_root)]
    run = ['run', *common, '--data-root', args.data_root, '--gpus', '0',
           *(['--rows', *args.rows] if args.rows else [])]
    args.work_root.mkdir(parents=True, exist_ok=True)
    log = args.work_root / 'driver.log'
    faults, protocol, begun = [], [], time.monotonic()
    rows, row_seconds = len(args.rows or range(14)), args.row_seconds
    while True:
        driver, started, before = start(run, log), time.monotonic(), results(root)
        if len(protocol) < args.kills:
            # Spread over the rows that are left, and from the first second of a driver on.
            to_go = (rows - len(before)) * row_seconds / (args.kills - len(protocol) + 1)
            moment = rng.uniform(0.5, max(30, 1.2 * to_go))
            try:
                driver.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                what = doing(root)
                driver.send_signal(signal.SIGKILL)
                driver.wait()
                protocol.append((time.monotonic() - begun, time.monotonic() - started,
                                 len(results(root)), what))
                print(f'kill {len(protocol)} after {moment:.1f} s: {what}, '
                      f'{len(results(root))} rows done', file=sys.stderr, flush=True)
        status = driver.wait()
        after = results(root)
        faults += [f'{name}: a finished row was written again' for name in before
                   if after.get(name) != before[name]]
        if len(after) > len(before):
            row_seconds = (time.monotonic() - started) / (len(after) - len(before))
        if status == -signal.SIGKILL:
            continue
        if status != 0:
            print(log.read_text()[-3000:], file=sys.stderr)
            return 1
        if len(protocol) >= args.kills or len(after) == rows:
            break
    wait_for_children(root)
    faults += check_runs(root)
    if len(after) != rows:
        faults.append(f'{len(after)} of {rows} rows are finished')
    if len(protocol) < args.kills:
        faults.append(f'the rows were finished after {len(protocol)} of {args.kills} kills')
    subprocess.run([sys.executable, str(TOOL), 'report', *common], check=True,
                   stdout=subprocess.DEVNULL)
    print(protocol_text(root, protocol, faults, time.monotonic() - begun))
    return 1 if faults else 0


def protocol_text(root: Path, protocol: list[tuple], faults: list[str], seconds: float) -> str:
    lines = [f'{len(results(root))} rows, {len(protocol)} SIGKILLs of the driver, '
             f'{seconds / 60:.0f} minutes. ' + (f'FAULTS: {"; ".join(faults)}' if faults else
                                                'No finished row, epoch or test was repeated.'), '',
             '| kill | minute | driver had run | rows done | it was in |',
             '| --- | --- | --- | --- | --- |']
    lines += [f'| {i} | {at / 60:.1f} | {ran:.1f} s | {done} | {what} |'
              for i, (at, ran, done, what) in enumerate(protocol, 1)]
    lines += ['', '| run | launches of train | of test | of these cut off by a kill |',
              '| --- | --- | --- | --- |']
    for path in sorted(root.glob('*/result.json'), key=lambda path: path.stat().st_mtime_ns):
        entries = launches(path.parent)
        starts = Counter(e['phase'] for e in entries if e['event'] == 'start')
        ends = sum(e['event'] == 'end' for e in entries)
        lines.append(f'| {path.parent.name} | {starts["train"]} | {starts["test"]} | '
                     f'{sum(starts.values()) - ends} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
