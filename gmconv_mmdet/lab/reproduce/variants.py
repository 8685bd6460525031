"""What is compared: any config and its variants, or the rows of the paper's tables; and how pairs
are made alike.

Runs of one seed share, by construction: the seed of MMEngine's random generators; the order of the
images and, by ``ExactResumeHook``, each image's augmentation; and the initial value of every tensor
that has the same name and shape in the variant and in the baseline. A pretrained backbone is left
as its checkpoint makes it. What differs is what the variants differ in, and what follows from it.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Tuple

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import set_random_seed

from ...deploy.plain_config import plain_twin
from ...files import write_whole
from ...openmmlab.config_file import config_scope, read_config
from ...openmmlab.mim_files import shipped
from .paper import DETECTION_TABLES

PLAIN = 'plain'
MASKED = ('GMResNet', 'GMBackbone')


class Variant(NamedTuple):
    """One side of a comparison. Runs of it lie in ``<name>-seed<k>/``."""
    name: str
    config: Path
    overrides: Tuple[str, ...] = ()  # 'model.backbone.gm_stem=static'
    is_plain_twin: bool = False
    baseline: str = PLAIN  # the name of the variant it is compared with; a baseline's is its own


class Comparison(NamedTuple):
    """Variants, baselines first, and what holds for all of them."""
    variants: Tuple[Variant, ...]
    options: Tuple[str, ...] = ()  # overrides
    data_root: Optional[Path] = None  # in place of the configs' own
    pretrained: Optional[str] = None  # backbone weights of variants with masks
    pretrained_plain: Optional[str] = None  # of those without

    def baseline_of(self, variant: Variant) -> Variant:
        return next(one for one in self.variants if one.name == variant.baseline)


def parse_overrides(texts: Sequence[str]) -> dict:
    """``key=value`` as mmdet's ``--cfg-options`` reads them.

    Raises:
        ValueError: one without ``=``.
    """
    odd = [text for text in texts if '=' not in text]
    if odd:
        raise ValueError(f'{odd[0]!r} is neither key=value nor a config file (*.py)')
    parser = ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--options', *texts]).options


def make_comparison(config: Path, against: str = PLAIN, name: str = 'gm',
                    variants: Sequence[Sequence[str]] = (),
                    options: Sequence[str] = ()) -> Comparison:
    """The comparison that the command line describes.

    Args:
        config (Path): the config with GMConv.
        against (str): ``'plain'``, the config's plain twin, or a config file.
        name (str): of ``config`` itself in tables and folders.
        variants (Sequence): each ``[name, 'key=value', ...]``, overrides on ``config``, or
            ``[name, 'other_config.py', 'key=value', ...]``.
        options (Sequence[str]): ``key=value`` for all of them.

    Raises:
        ValueError: two of one name, a name that is no file name, an override without ``=``.
        FileNotFoundError: no such config.
    """
    config = Path(config).expanduser().absolute()
    if against == PLAIN:
        members = [Variant(PLAIN, config, is_plain_twin=True)]
    else:
        other = Path(against).expanduser().absolute()
        members = [Variant(other.stem, other, baseline=other.stem)]
    baseline = members[0].name
    members.append(Variant(name, config, baseline=baseline))
    for own, *rest in variants:
        base = config
        if rest and rest[0].endswith('.py') and '=' not in rest[0]:
            base = Path(rest.pop(0)).expanduser().absolute()
        members.append(Variant(own, base, tuple(rest), baseline=baseline))
    names = [member.name for member in members]
    for own in names:
        if names.count(own) > 1 or not own or not all(c.isalnum() or c in '-_.+' for c in own):
            raise ValueError(f'{own!r} can\'t be a variant\'s name: each needs one of its own, of '
                             'letters, digits and -_.+; --name names the config itself')
    for member in members:
        parse_overrides(member.overrides)
        if not member.config.is_file():
            raise FileNotFoundError(f'no config at {member.config}')
    parse_overrides(options)
    return Comparison(tuple(members), tuple(options))


def table_comparison(table: str, options: Sequence[str] = ()) -> Comparison:
    """The rows of Table III or V of the paper, each against the paper's own baseline for it.

    The learning rate follows the batch: 0.02 at the paper's 16 images.

    Raises:
        ValueError: an option without ``=``.
    """
    parse_overrides(options)
    return Comparison(tuple(
        Variant(row.name, shipped(f'configs/gmconv/{row.name}_fpn_1x_coco.py'),
                ('auto_scale_lr.enable=True',), baseline=row.baseline)
        for row in DETECTION_TABLES[table]), tuple(options))


def variant_config(variant: Variant, seed: int, comparison: Comparison) -> Config:
    """The config of one run, without its initial weights. ``{seed}`` in strings of overrides and in
    the config's ``load_from`` stands for the seed: each seed can start from a detector of its own.

    Raises:
        ConfigError, FileNotFoundError: the file can't be used. ValueError: it has no plain twin, or
            no ``data_root`` that could be replaced.
    """
    cfg = read_config(variant.config)
    if comparison.data_root is not None:
        set_data_root(cfg, comparison.data_root)
    _set_weights(cfg, variant, comparison)
    cfg.merge_from_dict(_with_seed(parse_overrides([*comparison.options, *variant.overrides]),
                                   seed))
    if cfg.get('load_from'):
        cfg.load_from = _with_seed(cfg.load_from, seed)
    if variant.is_plain_twin:
        cfg = plain_twin(cfg)
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    hooks = list(cfg.get('custom_hooks') or [])
    present = {hook.get('type') for hook in hooks}
    # The last is idle where there are no masks.
    for kind in ('SafeCheckpoints', 'ExactResumeHook', 'SigmaLogHook'):
        if kind not in present:
            hooks.append(ConfigDict(type=kind))
    cfg.custom_hooks = hooks
    modules = cfg.setdefault('custom_imports', ConfigDict(imports=[], allow_failed_imports=False))
    if 'gmconv_mmdet' not in modules.imports:
        modules.imports = [*modules.imports, 'gmconv_mmdet']
    checkpoints = cfg.default_hooks.setdefault('checkpoint', ConfigDict(type='CheckpointHook'))
    checkpoints.setdefault('interval', 1)
    checkpoints.max_keep_ckpts = 2  # one before the newest, should that be damaged
    return cfg


def set_data_root(cfg: Config, root: Path) -> None:
    """Put a folder in place of the config's ``data_root``, in data sets and evaluators."""
    old, new = cfg.get('data_root'), f'{root}/'
    if not old:
        raise ValueError(f'{cfg.filename} has no data_root that --data-root could replace: set its '
                         'data sets and evaluators with --cfg-options')
    for part in _dicts(cfg._cfg_dict):
        for key, value in part.items():
            if key in ('data_root', 'ann_file') and str(value).startswith(old):
                part[key] = new + value[len(old):]


def _set_weights(cfg: Config, variant: Variant, comparison: Comparison) -> None:
    backbone = cfg.model.get('backbone') or {}
    masked = backbone.get('type') in MASKED and not variant.is_plain_twin
    weights = comparison.pretrained if masked else comparison.pretrained_plain
    if weights is None:
        return
    if not isinstance(backbone.get('init_cfg'), dict):
        raise ValueError(f'{variant.name}: its backbone has no init_cfg, into which --pretrained '
                         'and --pretrained-plain could put a checkpoint')
    backbone.init_cfg.checkpoint = weights
    if masked:
        # The paper's protocol: masks come trained with the backbone, frozen stages keep theirs.
        backbone.freeze_masks = True


def backbone_weights(cfg: Config) -> str | None:
    """Where a config's backbone starts from, None for a random start."""
    for part in _dicts(cfg.model.get('backbone')):
        for init in _dicts(part.get('init_cfg')):
            if init.get('checkpoint'):
                return init['checkpoint']
    return None


def _dicts(node: Any) -> Iterator[dict]:
    """All dicts in a config, outer ones first."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _dicts(child)


def _with_seed(value: Any, seed: int) -> Any:
    if isinstance(value, str):
        return value.replace('{seed}', str(seed))
    if isinstance(value, (list, tuple)):
        return type(value)(_with_seed(part, seed) for part in value)
    if isinstance(value, dict):
        return {key: _with_seed(part, seed) for key, part in value.items()}
    return value


def config_hash(cfg: Config) -> str:
    """SHA-256 of a config's content."""
    return hashlib.sha256(cfg.pretty_text.encode()).hexdigest()


def write_initial_weights(cfg: Config, baseline: Config, path: Path) -> str:
    """Write what a run starts from: its own initial weights, with the baseline's in every tensor
    of the same name and shape. Returns how many these are, for the record.

    Args:
        cfg (Config): of the run. It must not load a whole detector itself (``load_from``).
        baseline (Config): of the baseline's run with the same seed.
        path (Path): of the checkpoint.
    """
    own, base = _initial_state(cfg), _initial_state(baseline)
    pretrained = backbone_weights(cfg) is not None or backbone_weights(baseline) is not None
    alike = [name for name, tensor in own.items()
             if name in base and base[name].shape == tensor.shape
             and not (pretrained and name.startswith('backbone.'))]
    own.update({name: base[name] for name in alike})
    write_whole(path, lambda part: torch.save(dict(state_dict=own, meta={}), part))
    said = f'{len(alike)} of {len(own)} initial tensors are the baseline\'s'
    return said + (', the backbone starts from its checkpoint' if pretrained else '')


def _initial_state(cfg: Config) -> dict:
    set_random_seed(cfg.randomness.seed)
    with config_scope(cfg):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model.state_dict()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what mmdet and MMEngine print when a model is built or data are read."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
