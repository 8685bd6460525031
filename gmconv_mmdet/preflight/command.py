"""``tools/doctor.py CONFIG``: every check in turn, one line each, exit status 1 on faults."""
from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import torch.nn as nn
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS

from ..checkpoints.checkpoint_file import CheckpointError
from ..openmmlab.config_file import ConfigError, config_scope, read_config
from .datasets import SPLITS, CheckedSet, check_evaluators, check_sets, check_together
from .from_scratch import check_from_scratch
from .registered_names import check_batch, check_config
from .report import FAULT, NOTE, OK, Report
from .start_weights import load_start_weights
from .trained import CHECKPOINT_SUFFIXES, check_trained, inferencer_alone
from .trial import Trial, broken, trial_config
from .way_out import way_out


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='doctor.py CONFIG', description='Preflight of a config: what would break its training, '
        'one line each, found before the first iteration. Exit status 1 if there is a fault.')
    parser.add_argument('config', help='a config of MMDetection 3, ours or any other')
    parser.add_argument('--checkpoint', metavar='FILE', help='check trained weights as well: of this '
                        'config\'s model and classes, usable by a DetInferencer')
    parser.add_argument('--check-images', choices=['sample', 'all'], default='sample',
                        help='decode about 200 images of each set (default), or all of them')
    parser.add_argument('--no-trial', action='store_true',
                        help='leave out the training step and the evaluated image')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={},
                        metavar='KEY=VALUE', help='overrides, as train.py takes them')
    parser.add_argument('--json', action='store_true', help='print a list of objects at the end')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Returns the exit status: 0 sound, 1 faults, 130 when stopped by Ctrl-C."""
    args = parse_arguments(arguments)
    out = out or sys.stdout
    report = Report(None if args.json else out, sys.stderr)
    try:
        run_checks(report, args.config, args.cfg_options, args.checkpoint, args.check_images,
                   not args.no_trial)
    except KeyboardInterrupt:
        out.write('stopped\n')
        return 130
    faults = sum(finding.status == FAULT for finding in report.findings)
    if args.json:
        out.write(report.as_json() + '\n')
    elif faults:
        out.write(f'{faults} fault{"s" if faults > 1 else ""} found\n')
    else:
        out.write('no fault found. After training: DetInferencer(model=CONFIG, weights=CHECKPOINT); '
                  'weights alone are not enough\n')
    return int(faults > 0)


def run_checks(report: Report, config: str | Path, options: dict | None = None,
               checkpoint: str | None = None, image_mode: str = 'sample',
               trial: bool = True) -> None:
    """Run every check that the faults found before leave possible.

    Args:
        report (Report): gets the findings.
        config (str | Path): of mmdet.
        options (dict, optional): overrides: dotted key -> value.
        checkpoint (str, optional): trained weights to be checked as well.
        image_mode (str): 'sample' or 'all'.
        trial (bool): whether one training step and one evaluated image are tried.
    """
    with _quiet():
        cfg = _checked(report, 'config', lambda: _config(report, Path(config), options or {}))
        if cfg is None or report.has_fault('config'):
            return
        sets = _checked(report, 'data', lambda: _data(report, cfg, image_mode))
        report.doing('building the model')
        model = _checked(report, 'model', lambda: _model(report, cfg))
        if model is not None:
            report.doing('loading start weights')
            _checked(report, 'start weights', lambda: _start(report, cfg, model))
        for note in check_batch(cfg):
            report.add('learning rate', NOTE, note)
        if checkpoint and model is not None:
            _checked(report, 'checkpoint',
                     lambda: _checkpoint(report, cfg, model, Path(checkpoint), str(config)))
        if not trial:
            return
        if sets is None or model is None or report.has_fault('train set', 'val set', 'classes'):
            report.add('trial', NOTE, 'no training step was tried: mend the faults above first')
        else:
            _trial(report, cfg, model)


def _checked(report: Report, check: str, run):
    """The result of a check; an exception becomes a fault, and None."""
    try:
        return run()
    except ConfigError as error:
        report.add(check, FAULT, f'{error}. {_config_advice(error)}')
    except CheckpointError as error:  # they name the way out
        report.add(check, FAULT, str(error))
    except Exception as error:  # a config is a program, and may name classes of anyone
        report.add(check, FAULT, way_out(error))
    return None


def _config_advice(error: ConfigError) -> str:
    cause = error.__cause__
    return (way_out(cause).partition('. Cause and way out: ')[2].capitalize() if cause else
            '') or 'Correct the config'


def _config(report: Report, path: Path, options: dict) -> Config | None:
    if not path.is_file():
        report.add('config', FAULT, f'there is no config {path}: give the path of one; '
                   'tools/own_data.py writes one for a data set of your own')
        return None
    if path.name.endswith(CHECKPOINT_SUFFIXES):
        report.add('config', FAULT, '. '.join([
            f'{path.name} is a checkpoint: give the config it was trained with, doctor.py CONFIG.py '
            f'--checkpoint {path}', *inferencer_alone(path, None)]))
        return None
    cfg = read_config(path)
    cfg.merge_from_dict(options)
    if not report.faults('config', check_config(cfg)):
        report.add('config', OK, f'{path}: {cfg.model.get("type")}')
    return cfg


def _data(report: Report, cfg: Config, image_mode: str) -> list[CheckedSet]:
    found: list[CheckedSet] = []
    for split in SPLITS:
        report.doing(f'reading annotations of the {split} set')
        sets = check_sets(cfg, split, image_mode, lambda folder, done, total: report.doing(
            f'image {done} of {total} in {folder}'))
        for checked in sets:
            report.faults(f'{split} set', checked.problems, checked.summary)
            for text in checked.remarks:
                report.add(f'{split} set', NOTE, text)
        if not sets:
            report.add(f'{split} set', NOTE if split == 'val' else FAULT,
                       f'there is no {split}_dataloader with a dataset'
                       + (': nothing is evaluated while training' if split == 'val' else
                          ': add one, as tools/own_data.py writes it'))
        found += sets
    known = next((checked.classes for checked in found if checked.classes), None)
    report.faults('classes', check_together(cfg, found),
                  known and f'{len(known)} in data, metainfo and heads: {", ".join(known[:8])}'
                  + (', ...' if len(known) > 8 else ''))
    report.faults('evaluator', check_evaluators(cfg))
    return found


def _model(report: Report, cfg: Config) -> nn.Module:
    with config_scope(cfg):
        model = MODELS.build(cfg.model)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    report.add('model', OK, f'{type(model).__name__}, {millions:.1f} million parameters')
    return model


def _start(report: Report, cfg: Config, model: nn.Module) -> None:
    start = load_start_weights(model, cfg.get('load_from'))
    report.faults('start weights', start.problems)
    for line in start.loaded:
        report.add('start weights', OK, line)
    report.faults('from scratch', check_from_scratch(model, start),
                  '' if start.of else 'nothing is loaded, and all of the backbone learns')


def _checkpoint(report: Report, cfg: Config, model: nn.Module, file: Path, config: str) -> None:
    if not file.is_file():
        report.add('checkpoint', FAULT, f'there is no checkpoint {file}: correct --checkpoint')
        return
    report.faults('checkpoint', check_trained(file, cfg, model),
                  f'{file} is of this model and its classes')
    for text in inferencer_alone(file, config):
        report.add('checkpoint', NOTE, text)


def _trial(report: Report, cfg: Config, model: nn.Module) -> None:
    with tempfile.TemporaryDirectory(prefix='preflight') as folder:
        report.doing('setting up a training')
        trial = _checked(report, 'trial', lambda: Trial(trial_config(cfg, folder), model))
        if trial is None:
            return
        report.doing('one training step')
        step = _checked(report, 'training step', trial.train_step)
        if step is None:
            return
        far = [text for text in step.warned if 'far from normalised' in text]
        report.faults('normalisation', far)
        wrong = broken(step)
        if wrong:
            report.add('training step', FAULT, f'{wrong}: lower the learning rate, begin with '
                       'LinearLR as warm-up, look at mean and std of data_preprocessor; '
                       'DivergenceHook finds the layer (docs/numerical_stability.md)')
        else:
            report.add('training step', OK, f'loss {step.losses.get("loss", 0):.3g} on '
                       f'{step.images} of {step.dataset} training images')
        if not trial.evaluates:
            return
        report.doing('one evaluated image')
        evaluated = _checked(report, 'evaluation', trial.evaluate_one)
        if evaluated is not None:
            boxes, metrics = evaluated
            report.add('evaluation', OK, f'{boxes} boxes on one image, so early of no meaning'
                       + (f'; {len(metrics)} metrics' if metrics else ''))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What packages print, log and warn of stays away from the report."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
