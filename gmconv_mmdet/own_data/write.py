"""Files written for a data set of one's own, and the commands that come next."""
from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config

from ..openmmlab.config_file import read_config
from ..openmmlab.mim_files import shipped
from ..preflight.boxes import numbered_zero
from .base_config import has_masks, read_base
from .coco_files import OwnDataError, read_set, same_classes, split_set
from .own_config import Options, config_text


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        config: the config's path.
        annotations: the annotation files beside it, where the data were divided.
        remarks: what to know before training, a sentence or two each.
        commands: what comes next: title -> command.
    """
    config: Path
    annotations: list[Path]
    remarks: list[str]
    commands: dict[str, str]


def write_own_config(train: tuple[str, str], val: tuple[str, str] | None, base: str,
                     out: str | Path, options: Options = Options(),  # noqa: B008, it is frozen
                     val_share: float = 0.2) -> Written:
    """Write a config for a COCO-format data set; nothing is written unless all of it can be.

    Args:
        train: annotation file and image folder.
        val: the same for validation; None divides ``train`` by image, and writes
            ``<out>_train.json`` and ``<out>_val.json`` beside the config.
        base: see :func:`~gmconv_mmdet.own_data.base_config.read_base`.
        out: the config, ``*.py``.
        options: see :class:`~gmconv_mmdet.own_data.own_config.Options`.
        val_share: part of the images for validation, where they are divided.

    Raises:
        OwnDataError: data, base or options don't serve.
        FileExistsError: a file to be written exists already.
    """
    out = Path(out).expanduser().absolute()
    if out.suffix != '.py':
        raise OwnDataError(f'--out is the config to write and ends in .py, got {out.name}')
    if out.stem.count('.'):
        raise OwnDataError(f'MMEngine reads no config with a dot in its name: {out.name}')
    halves = [] if val else [out.with_name(f'{out.stem}_{part}.json') for part in ('train', 'val')]
    for path in [out, *halves]:
        if path.exists():
            raise FileExistsError(f'{path} exists and is not overwritten: give another --out, or '
                                  'move it away')
    found = read_base(base)
    whole = read_set(*train)
    contents: tuple[dict, ...] = ()
    if val:
        validation = read_set(*val)
        same_classes(whole, validation)
        val_annotations, val_images, note = validation.annotations, validation.images, ''
    else:
        contents = split_set(whole, val_share, options.seed)
        whole = replace(whole, annotations=halves[0], content=contents[0])
        val_annotations, val_images = halves[1], whole.images
        note = (f' Divided by image at random: {len(contents[0]["images"])} to train on, '
                f'{len(contents[1]["images"])} to validate. Frames of a video or parts of one '
                'photograph belong on one side: divide those by hand and give --val.')
    text, remarks = config_text(found, whole, val_annotations, val_images, options, note)
    out.parent.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for path, content in zip(halves, contents):
            _write_new(path, json.dumps(content), written)
        _write_new(out, text, written)
        cfg = read_config(out)  # a config that can't be read is no result
    except BaseException:
        for path in written:
            path.unlink()
        raise
    if val:
        remarks = [*remarks, *numbered_zero(validation.content, val_annotations)]
    if not has_masks(cfg):
        remarks = [*remarks, 'the base has no convolutions of this package: configs/gmconv/ has '
                   'bases that do']
    return Written(out, halves, remarks, next_commands(out, cfg, val_annotations, val_images))


def _write_new(path: Path, text: str, written: list[Path]) -> None:
    with path.open('x', encoding='utf-8') as file:
        written.append(path)
        file.write(text)


def next_commands(config: Path, cfg: Config, val_annotations: Path,
                  val_images: Path) -> dict[str, str]:
    """Commands for a written config: title -> command for a shell."""
    def command(tool: Path, *arguments: object) -> str:
        return shlex.join(['python', str(tool), *map(str, arguments)])

    def ours(name: str) -> Path:
        return next(shipped('tools').rglob(name))

    folder = f'work_dirs/{config.stem}'
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    checkpoint = f'{folder}/epoch_{epochs}.pth' if epochs else f'{folder}/CHECKPOINT.pth'
    commands = {
        'check before training': command(ours('doctor.py'), config),
        'train (or: mim train mmdet CONFIG)': command(shipped('tools/train.py', 'mmdet'), config),
        'test': command(shipped('tools/test.py', 'mmdet'), config, checkpoint)}
    if has_masks(cfg):
        commands.update({
            'fold the masks into the weights': command(
                ours('fuse.py'), config, checkpoint, f'{folder}/folded', '--calib',
                val_annotations, val_images),
            'draw masks': command(ours('visualize_masks.py'), config, checkpoint, '--out',
                                  f'{folder}/masks', '--images', val_images),
            'compare with the plain network': command(
                ours('reproduce.py'), 'run', '--config', config, '--against', 'plain', '--seeds',
                0, 1, 2, '--out', f'work_dirs/{config.stem}_comparison')})
    commands['see which boxes exceed their level\'s receptive field'] = command(
        ours('analyze_rf.py'), config, '--annotations', val_annotations, '--brief')
    return commands
