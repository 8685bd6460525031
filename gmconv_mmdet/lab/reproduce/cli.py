"""The command line of ``tools/reproduce.py``."""
from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ...openmmlab.config_file import ConfigError
from .driver import Driver, LaunchOptions, Screen
from .paper import DETECTION_TABLES
from .preflight import PreflightError
from .processes import Interrupted, signals_raise
from .report.comparison import read_results, write_comparison
from .run_folder import RunFolder, RunFolderError
from .variants import (
    PLAIN,
    Comparison,
    Variant,
    make_comparison,
    table_comparison,
    variant_config,
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='reproduce.py',
        description='Trains a config with GMConv and its plain twin, paired by seed, and reports '
        'whether it helps (--config); or the rows of the GMConv paper\'s tables (--table). See '
        'docs/reproduce.md.')
    commands = parser.add_subparsers(dest='command', required=True)

    common = argparse.ArgumentParser(add_help=False)
    which = common.add_argument_group('what is run')
    which.add_argument('--table', choices=list(DETECTION_TABLES),
                       help='a table of the paper, arXiv 2302.04544, on COCO 2017')
    which.add_argument('--rows', nargs='+', metavar='NAME',
                       help='these variants only; of a table rows (faster-rcnn_r50-gm-stem-l1), '
                       'backbones (r50-gm-stem-l1) or detectors (faster-rcnn). Default: all')
    which.add_argument('--work-root', '--out', dest='work_root', type=Path,
                       default=Path('work_dirs/reproduce'),
                       help='folder of all runs (default: %(default)s)')
    which.add_argument('--results', type=Path, metavar='FOLDER',
                       help='run: copy each finished run\'s small result file there; report: read '
                       'them there, without the runs\' folders')

    runs = argparse.ArgumentParser(add_help=False, parents=[common])
    runs.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='SEED',
                      help='each is one run of every variant (default: 0)')
    own = runs.add_argument_group('a config of your own')
    own.add_argument('--config', type=Path, help='a config with GMConv, evaluated by CocoMetric')
    own.add_argument('--against', default=PLAIN, metavar='plain|CONFIG',
                     help='what it is compared with: plain (default), the same config with plain '
                     'convolutions, made from it; or another config')
    own.add_argument('--name', default='gm', help='of --config itself in folders and tables '
                     '(default: %(default)s)')
    own.add_argument('--variant', nargs='+', action='append', default=[], dest='variants',
                     metavar='NAME [CONFIG] KEY=VALUE',
                     help='one more variant: overrides on --config, or another config. Example: '
                     '--variant sgm model.backbone.gm_stem=static. May be given again')
    every = runs.add_argument_group('for all variants')
    every.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                       help='overrides; {seed} in them stands for the seed')
    every.add_argument('--data-root', type=Path,
                       help='folder of the data set, in place of the configs\' data_root')
    every.add_argument('--pretrained', metavar='FILE',
                       help='backbone weights of variants with GMConv, masks of frozen stages '
                       'frozen as in the paper; default: the configs\'')
    every.add_argument('--pretrained-plain', metavar='FILE',
                       help='the same for variants without GMConv')

    making = argparse.ArgumentParser(add_help=False)
    making.add_argument('--check-images', choices=['sample', 'all'], default='sample',
                        help='open 200 images of each set before the first run, or all of them')
    machine = making.add_argument_group('machine')
    machine.add_argument('--gpus', type=int, help='for each run, through torchrun where it is more '
                         'than 1; 0: the CPU. Default: 1, where there is one')
    machine.add_argument('--jobs', type=int, default=1, help='runs at a time (default: 1)')
    machine.add_argument('--threads', type=int,
                         help='CPU threads of each run (OMP_NUM_THREADS)')

    commands.add_parser('plan', parents=[runs], help='which runs there are, and what is left')
    commands.add_parser('check', parents=[runs, making], help='look for problems, run nothing')
    run = commands.add_parser('run', parents=[runs, making], help='make all runs that are not done')
    run.add_argument('--keep-going', action='store_true', help='after a failure, the next run')
    run.add_argument('--print-commands', action='store_true',
                     help='prepare the folders and print the commands instead of running them, for '
                     'Slurm or several machines')
    report = commands.add_parser('report', parents=[common], help='what came out, as Markdown, '
                                 'JSON and one HTML page')
    report.add_argument('--to', '--report', dest='to', type=Path, metavar='FOLDER',
                        help='folder for the report; default: that of the runs or results')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 problems or failures, 2 bad arguments, 128 + signal when
    stopped."""
    args = parse_arguments(arguments)
    args.work_root = args.work_root.expanduser().absolute()
    screen = Screen(sys.stdout)
    try:
        if args.command != 'report':
            comparison = _comparison(args)
            # Seed by seed: the first seed's comparison is complete first.
            runs = [RunFolder(args.work_root, variant, seed) for seed in dict.fromkeys(args.seeds)
                    for variant in select_rows(comparison, args.rows)]
        launch = _launch_options(args) if args.command in ('check', 'run') else None
    except (ValueError, FileNotFoundError) as error:
        screen.say(f'reproduce.py: {error}')
        return 2
    try:
        with signals_raise():
            if args.command == 'report':
                return _report(args, screen)
            if args.command == 'plan':
                screen.say(plan_text(runs, {
                    variant: variant_config(variant, 0, comparison).train_cfg.max_epochs
                    for variant in {run.variant for run in runs}}))
                return 0
            return _make(args, runs, Driver(comparison, launch, screen))
    except (PreflightError, RunFolderError, ConfigError) as error:
        screen.say(str(error))
        return 1
    except (OSError, ValueError) as error:  # a folder that can't be written to, no plain twin
        screen.say(f'reproduce.py: {error}')
        return 1
    except Interrupted as interrupted:
        screen.say(f'Stopped by {interrupted}. The same command continues: finished runs are '
                   'skipped, a begun one goes on after its last checkpoint.')
        return 128 + interrupted.signum


def _comparison(args: argparse.Namespace) -> Comparison:
    if (args.table is None) == (args.config is None):
        raise ValueError('give --config CONFIG, a config to be compared with its plain twin, or '
                         '--table, a table of the paper')
    if args.table is not None:
        comparison = table_comparison(args.table, args.cfg_options)
    else:
        comparison = make_comparison(args.config, args.against, args.name, args.variants,
                                     args.cfg_options)
    root = args.data_root and args.data_root.expanduser().absolute()
    return comparison._replace(data_root=root, pretrained=_weights(args.pretrained),
                               pretrained_plain=_weights(args.pretrained_plain))


def _weights(source: str | None) -> str | None:
    """A local file by its whole path: a run may be continued from another folder."""
    if source is None or '://' in source:
        return source
    return str(Path(source).expanduser().absolute())


def select_rows(comparison: Comparison, names: Sequence[str] | None) -> list[Variant]:
    """Variants by name, all without ``names``. A detector's or a backbone's name means all rows of
    a table that have it.

    Raises:
        ValueError: a name that means none.
    """
    if names is None:
        return list(comparison.variants)

    def means(name: str, variant: Variant) -> bool:
        return name in (variant.name, *variant.name.split('_', 1))

    unknown = [name for name in names
               if not any(means(name, variant) for variant in comparison.variants)]
    if unknown:
        raise ValueError(f'no such variant: {", ".join(unknown)}. There are '
                         f'{", ".join(variant.name for variant in comparison.variants)}')
    return [variant for variant in comparison.variants
            if any(means(name, variant) for name in names)]


def _launch_options(args: argparse.Namespace) -> LaunchOptions:
    gpus = min(1, torch.cuda.device_count()) if args.gpus is None else args.gpus
    if gpus < 0 or min(args.jobs, args.threads or 1) < 1:
        raise ValueError('--gpus must be 0 or more; --jobs and --threads 1 or more')
    return LaunchOptions(gpus, args.threads, args.jobs)


def _report(args: argparse.Namespace, screen: Screen) -> int:
    source = (args.results or args.work_root).expanduser().absolute()
    folder = (args.to or source).expanduser().absolute()
    for path in write_comparison(read_results(source, args.rows, args.table), folder):
        screen.say(str(path))
    return 0


def _make(args: argparse.Namespace, runs: list[RunFolder], driver: Driver) -> int:
    say = driver.screen.say
    open_runs = [run for run in runs if run.read_result() is None]
    if open_runs:
        driver.check(open_runs, args.check_images)
        say('preflight: no problem in the data, the weights and the machine; '
            f'{len(open_runs)} of {len(runs)} runs to make')
    if args.command == 'check':
        return 0
    if args.print_commands:
        for run in open_runs:
            say('\n'.join([f'# {run.title}', *map(shlex.join, driver.commands(run))]))
        return 0
    if args.results is not None:
        driver.results = args.results.expanduser().absolute()
    failed = driver.run(runs, args.keep_going)
    done = sum(run.read_result() is not None for run in runs)
    say(f'{done} of {len(runs)} runs done' +
        (f', {len(failed)} failed: {", ".join(run.title for run in failed)}' if failed else
         f'. The report: reproduce.py report --work-root {shlex.quote(str(args.work_root))}'))
    return 1 if failed else 0


def plan_text(runs: Sequence[RunFolder], epochs: dict[Variant, int]) -> str:
    """A line a run with its state and the epochs that are left of it, and the sum. What an epoch
    takes depends on the machine; MMEngine prints it within the first minute."""
    width = max(8, *(len(run.variant.name) for run in runs))
    states, left = [], 0
    lines = [f'{"variant":{width}}  seed  {"state":11}  epochs  epochs left']
    for run in runs:
        whole, state = epochs[run.variant], run.state()
        done = whole if state == 'done' else run.newest_checkpoint()[0]
        states.append(state)
        left += whole - done
        lines.append(f'{run.variant.name:{width}}  {run.seed:4}  {state:11}  {done:3}/{whole:<2}  '
                     f'{whole - done:11}')
    counts = ', '.join(f'{states.count(state)} {state}'
                       for state in ('done', 'in progress', 'missing'))
    return '\n'.join([*lines, f'{counts}; {left:,} epochs left'])
