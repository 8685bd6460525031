"""The command line of ``tools/reproduce.py``."""
from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...openmmlab.config_file import ConfigError
from .driver import LAUNCHERS, Driver, LaunchOptions, Screen
from .paper import DETECTION_TABLES
from .preflight import PreflightError, annotated_classes
from .processes import Interrupted, signals_raise
from .report.comparison import read_results, write_comparison
from .report.paper_table import Table, write_report
from .run_folder import Recipe, RunFolder, RunFolderError, find_runs, runs_root
from .table import (
    COCO_2017_IMAGES,
    EPOCHS,
    EVALUATORS,
    REHEARSAL_EPOCHS,
    REHEARSAL_TRAIN_IMAGES,
    CocoFolder,
    RunOptions,
    TableRecipe,
    find_coco_folder,
    select_rows,
)
from .variants import PLAIN, Comparison, ComparisonRecipe, make_comparison, variant_config


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='reproduce.py',
        description='Trains a config with GMConv and its plain twin, paired by seed, and reports '
        'whether it helps (--config); or runs and reports the tables of the GMConv paper '
        '(--table). See docs/reproduce.md.')
    commands = parser.add_subparsers(dest='command', required=True)

    common = argparse.ArgumentParser(add_help=False)
    which = common.add_argument_group('what is run')
    which.add_argument('--table', choices=list(DETECTION_TABLES),
                       help='a table of the paper, arXiv 2302.04544, on COCO 2017')
    which.add_argument('--rows', nargs='+', metavar='ROW',
                       help='of a table: rows (faster-rcnn_r50-gm-stem-l1), backbones '
                       '(r50-gm-stem-l1) or detectors (faster-rcnn); of a comparison: variants. '
                       'Default: all')
    which.add_argument('--work-root', '--out', dest='work_root', type=Path,
                       default=Path('work_dirs/reproduce'),
                       help='folder of all runs (default: %(default)s); rehearsals go to '
                       'rehearsal/ in it')
    which.add_argument('--rehearse', action='store_true',
                       help='with --table: the same machinery, small; no result comes out')

    runs = argparse.ArgumentParser(add_help=False, parents=[common])
    runs.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='SEED',
                      help='each is one run of every row or variant (default: 0)')
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
    own.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                     help='overrides for all variants; {seed} in them stands for the seed')

    making = argparse.ArgumentParser(add_help=False)
    making.add_argument('--check-images', choices=['sample', 'all'], default='sample',
                        help='open 200 images of each set before the first run, or all of them')
    machine = making.add_argument_group('machine')
    machine.add_argument('--gpus', type=int,
                         help='in total; 0: the CPU. Default: 1; for --config and rehearsals the '
                         'CPU where there is no GPU')
    machine.add_argument('--jobs', type=int, default=1, help='runs at a time (default: 1)')
    machine.add_argument('--threads', type=int,
                         help='CPU threads of each run (OMP_NUM_THREADS)')
    machine.add_argument('--launcher', choices=LAUNCHERS,
                         help='default: pytorch (torchrun) for more than one GPU, else none')
    machine.add_argument('--gpus-per-node', type=int, default=8, help='with --launcher slurm')
    machine.add_argument('--srun-args', default='', metavar='"..."',
                         help='with --launcher slurm: further arguments of srun, as one string')
    machine.add_argument('--nodes', type=int, default=1,
                         help='with --launcher pytorch: --gpus is spread over this many machines, '
                         'trainings are started by hand (see docs/reproduce.md)')
    machine.add_argument('--rendezvous', metavar='HOST:PORT', help='with --nodes: one of them')
    data = making.add_argument_group('data of --table')
    data.add_argument('--data-root', type=Path, default=Path('data/coco'),
                      help='COCO 2017: annotations/, train2017/, val2017/ (default: %(default)s); '
                      'for a rehearsal any folder in COCO\'s format')
    for part, what in (('train-annotations', 'file'), ('val-annotations', 'file'),
                       ('train-images', 'folder'), ('val-images', 'folder')):
        data.add_argument(f'--{part}', metavar=what.upper(),
                          help=f'{what} under --data-root, where its name isn\'t COCO 2017\'s')
    recipe = making.add_argument_group('recipe of --table')
    recipe.add_argument('--images-per-gpu', type=int, default=2,
                        help='the learning rate follows the batch; the paper has 8 x 2')
    recipe.add_argument('--workers', type=int, help='data loading processes a GPU')
    recipe.add_argument('--amp', action='store_true',
                        help='mixed precision; not the paper\'s recipe')
    recipe.add_argument('--pretrained', metavar='FILE',
                        help='backbone weights of rows with GMConv, masks of frozen stages frozen '
                        'as in the paper; default: GMCONV_PRETRAINED, else torchvision\'s '
                        'ResNet-50')
    recipe.add_argument('--pretrained-plain', metavar='FILE',
                        help='the same for rows without GMConv')
    recipe.add_argument('--coco-eval', choices=list(EVALUATORS), default='pycocotools')

    commands.add_parser('plan', parents=[runs], help='which runs there are, and what is left')
    commands.add_parser('check', parents=[runs, making], help='look for problems, run nothing')
    run = commands.add_parser('run', parents=[runs, making], help='make all runs that are not done')
    run.add_argument('--keep-going', action='store_true', help='after a failure, the next run')
    run.add_argument('--results', type=Path, metavar='FOLDER',
                     help='with --config: copy each finished run\'s small result file there; '
                     'report reads them without the runs\' folders')
    run.add_argument('--print-commands', action='store_true',
                     help='prepare the folders and print the commands instead of running them')
    report = commands.add_parser(
        'report', parents=[common], help='with --table: paper and measured, side by side; else the '
        'comparison in --work-root or --results, as Markdown, JSON and one HTML page')
    report.add_argument('--results', type=Path, metavar='FOLDER',
                        help='result files that run --results copied; default: those of the runs')
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
        _check_arguments(args)
        runs, comparison = _runs(args) if args.command != 'report' else ([], None)
        launch = _launch_options(args) if args.command in ('check', 'run') else None
    except (ValueError, FileNotFoundError) as error:
        screen.say(f'reproduce.py: {error}')
        return 2
    try:
        with signals_raise():
            if args.command == 'plan':
                epochs = None if comparison is None else {
                    member: variant_config(member, 0, comparison.options).train_cfg.max_epochs
                    for member in comparison.variants}
                screen.say(plan_text(runs, epochs))
                return 0
            if args.command == 'report':
                return _report(args, screen)
            return _make(args, runs, comparison, launch, screen)
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


def _check_arguments(args: argparse.Namespace) -> None:
    config = getattr(args, 'config', None)
    if args.command != 'report' and (args.table is None) == (config is None):
        raise ValueError('give --config CONFIG, a config to be compared with its plain twin, or '
                         '--table, a table of the paper')
    if args.rehearse and args.table is None:
        raise ValueError('--rehearse goes with --table; a short --config run: --cfg-options '
                         'train_cfg.max_epochs=1')
    if args.table is not None and getattr(args, 'results', None) is not None:
        raise ValueError('--results goes with --config')


def _runs(args: argparse.Namespace) -> tuple[list[RunFolder], Comparison | None]:
    """In the paper's order, seed by seed: the first seed's table is complete first."""
    if args.config is None:
        comparison = None
        rows: list[Any] = select_rows(args.table, args.rows)
    else:
        comparison = make_comparison(args.config, args.against, args.name, args.variants,
                                     args.cfg_options)
        rows = [member for member in comparison.variants
                if args.rows is None or member.name in args.rows]
        unknown = set(args.rows or ()) - {member.name for member in comparison.variants}
        if unknown:
            raise ValueError(f'no such variant: {", ".join(sorted(unknown))}. There are '
                             f'{", ".join(member.name for member in comparison.variants)}')
    runs = [RunFolder(args.work_root, row, seed, args.rehearse)
            for seed in dict.fromkeys(args.seeds) for row in rows]
    return runs, comparison


def _report(args: argparse.Namespace, screen: Screen) -> int:
    if args.table is not None:
        rows = select_rows(args.table, args.rows)
        runs = find_runs(args.work_root, rows, args.rehearse)
        folder = args.to or runs_root(args.work_root, args.rehearse)
        paths = write_report(Table(args.table, runs, args.rehearse, rows),
                             folder.expanduser().absolute())
    else:
        source = (args.results or args.work_root).expanduser().absolute()
        folder = (args.to or source).expanduser().absolute()
        paths = write_comparison(read_results(source, args.rows), folder)
    for path in paths:
        screen.say(str(path))
    return 0


def _launch_options(args: argparse.Namespace) -> LaunchOptions:
    gpus = args.gpus
    if gpus is None:
        gpus = 1 if args.table and not args.rehearse else min(1, torch.cuda.device_count())
    launcher = args.launcher or ('pytorch' if gpus > 1 else 'none')
    if gpus < 0 or min(args.images_per_gpu, args.gpus_per_node, args.nodes, args.jobs,
                       args.threads or 1) < 1:
        raise ValueError('--gpus must be 0 or more; --images-per-gpu, --gpus-per-node, --nodes, '
                         '--jobs and --threads 1 or more')
    if args.nodes > 1 and (launcher != 'pytorch' or gpus % args.nodes or not args.rendezvous):
        raise ValueError(f'--nodes {args.nodes} goes with --launcher pytorch, --gpus a multiple of '
                         'it, and --rendezvous HOST:PORT. Slurm knows its nodes from --gpus and '
                         '--gpus-per-node')
    if gpus > 1 and launcher == 'none':
        raise ValueError(f'--gpus {gpus} needs --launcher pytorch or slurm: without a launcher '
                         'there is one process')
    if gpus == 0 and launcher != 'none':
        raise ValueError(f'--gpus 0, the CPU, goes with --launcher none, not {launcher}: '
                         'MMEngine\'s launchers give each process a GPU')
    return LaunchOptions(gpus, launcher, args.gpus_per_node, tuple(shlex.split(args.srun_args)),
                         args.nodes, args.rendezvous, args.threads, args.jobs)


def _weights(source: str | None) -> str | None:
    """A local file by its whole path: a run may be continued from another folder."""
    if source is None or '://' in source:
        return source
    return str(Path(source).expanduser().absolute())


def _recipe(args: argparse.Namespace, comparison: Comparison | None) -> Recipe:
    if comparison is not None:
        return ComparisonRecipe(comparison)
    data = find_coco_folder(args.data_root, **{part: getattr(args, part)
                                               for part in CocoFolder._fields[1:]})
    options = RunOptions(data, args.rehearse, args.images_per_gpu, args.workers, args.amp,
                         args.coco_eval, _weights(args.pretrained), _weights(args.pretrained_plain))
    return TableRecipe(options, annotated_classes(data) if args.rehearse else None)


def _make(args: argparse.Namespace, runs: list[RunFolder], comparison: Comparison | None,
          launch: LaunchOptions, screen: Screen) -> int:
    if args.rehearse:
        screen.say('REHEARSAL: small and short, nothing below is a result.')
    driver = Driver(_recipe(args, comparison), launch, screen)
    open_runs = [run for run in runs if run.read_result() is None]
    if open_runs:
        driver.check(open_runs, args.check_images)
        screen.say('preflight: no problem in the data, the weights and the machine; '
                   f'{len(open_runs)} of {len(runs)} runs to make')
    if args.command == 'check':
        return 0
    if args.print_commands:
        for run in open_runs:
            screen.say('\n'.join([f'# {run.title}', *map(shlex.join, driver.commands(run))]))
        return 0
    if args.results is not None:
        driver.results = args.results.expanduser().absolute()
    failed = driver.run(runs, args.keep_going)
    done = sum(run.read_result() is not None for run in runs)
    report = (f'reproduce.py report {f"--table {args.table} " if args.table else ""}--work-root '
              f'{shlex.quote(str(args.work_root))}{" --rehearse" if args.rehearse else ""}')
    screen.say(f'{done} of {len(runs)} runs done' +
               (f', {len(failed)} failed: {", ".join(run.title for run in failed)}' if failed else
                f'. The report: {report}'))
    return 1 if failed else 0


def plan_text(runs: Sequence[RunFolder], epochs: Mapping | None = None) -> str:
    """A line a run with its state and what is left of it, and the sum.

    Args:
        runs (Sequence[RunFolder]): of a table, or of a comparison.
        epochs (Mapping, optional): of a comparison, epochs by variant. The unit of cost is the
            epoch then; for a table it is one training image seen once: images x epochs. What that
            takes depends on the machine; MMEngine prints it within the first minute.
    """
    rehearsal = runs[0].rehearsal
    of_table = REHEARSAL_EPOCHS if rehearsal else EPOCHS
    images = REHEARSAL_TRAIN_IMAGES if rehearsal else COCO_2017_IMAGES['train']
    unit = 'images x epochs' if epochs is None else 'epochs'
    width = max(8, *(len(run.row.name) for run in runs))
    states, left = [], 0
    lines = [f'{"row" if epochs is None else "variant":{width}}  seed  {"state":11}  epochs  '
             f'{unit} left']
    for run in runs:
        whole = of_table if epochs is None else epochs[run.row]
        state = run.state()
        done = whole if state == 'done' else run.newest_checkpoint()[0]
        cost = (whole - done) * (images if epochs is None else 1)
        states.append(state)
        left += cost
        lines.append(f'{run.row.name:{width}}  {run.seed:4}  {state:11}  {done:3}/{whole:<2}  '
                     f'{cost:{len(unit) - 1},}')
    counts = ', '.join(f'{states.count(state)} {state}'
                       for state in ('done', 'in progress', 'missing'))
    end = f' ({images:,} images, {of_table} epochs a run)' if epochs is None else ''
    return '\n'.join([
        *(['REHEARSAL: no run of this list is a result.'] if rehearsal else []), *lines,
        f'{counts}; {left:,} {unit} left{end}'])
