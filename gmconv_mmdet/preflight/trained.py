"""A trained checkpoint: of this config's model, and what a ``DetInferencer`` makes of it alone."""
from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config

from ..checkpoints.checkpoint_file import read_checkpoint
from ..checkpoints.usable_tensors import refuse_unusable, tensors_by_name
from ..messages import shortened
from .datasets import dataset_parts
from .start_weights import fitting_names

CHECKPOINT_SUFFIXES = ('.pth', '.pt', '.pth.tar', '.safetensors')


def check_trained(file: Path, cfg: Config, model: nn.Module) -> list[str]:
    """Whether a checkpoint is of a config's model and classes.

    Raises:
        OSError: there is no such file.
        CheckpointError: it can't be read, or holds values that are no numbers.
    """
    content = read_checkpoint(file)
    given = tensors_by_name(content.get('state_dict', content))
    refuse_unusable(given)
    wanted = model.state_dict()
    fitting = fitting_names(given, wanted)
    problems = []
    missing = [name for name in wanted if name not in set(fitting)]
    if missing:
        shapes = [name for name in missing if name in given]
        problems.append(f'{file} is of another model: {len(fitting)} of {len(wanted)} tensors fit, '
                        + (f'{shortened(shapes)} are of another shape' if shapes else
                           f'{shortened(missing)} are missing')
                        + '. Name the config that it was trained with (it is beside the checkpoint '
                        'in work_dirs)')
    meta = content.get('meta')
    noted = (meta.get('dataset_meta') or {}).get('classes') if isinstance(meta, Mapping) else None
    loader = cfg.get('test_dataloader') or cfg.get('train_dataloader') or {}
    own = next((part.get('metainfo', {}).get('classes') for part in
                dataset_parts(loader.get('dataset'))), None)
    if noted and own and not isinstance(own, str) and tuple(noted) != tuple(own):
        problems.append(f'{file} was trained on the classes {shortened(list(noted))}, the config '
                        f'names {shortened(list(own))}: drawings would have the wrong names. Name '
                        'the config that it was trained with')
    return problems


def inferencer_alone(file: Path, config: str | None) -> list[str]:
    """Why ``DetInferencer(weights=file)`` without a config fails or names wrong classes, with the
    way out; empty where it works.

    Raises:
        OSError: there is no such file.
        CheckpointError: it can't be read.
    """
    content = read_checkpoint(file)
    hub, meta = content.get('message_hub'), content.get('meta')
    text = ((hub.get('runtime_info') or {}).get('cfg') if isinstance(hub, Mapping) else None) or (
        meta.get('cfg') if isinstance(meta, Mapping) else None)
    given = f'DetInferencer(model={config or "CONFIG.py"!r}, weights={str(file)!r})'
    if not isinstance(text, str):
        return [f'DetInferencer(weights=...) alone stops, since {file.name} holds no config: write '
                f'{given}']
    problems = []
    refusal = _torch_refuses(file)
    if refusal:
        problems.append(f'DetInferencer(weights=...) alone stops: torch {torch.__version__} refuses '
                        f'what MMEngine saves ({refusal}) before the config in it can import '
                        f'anything. Write import gmconv_mmdet first, or {given}')
    if not isinstance(meta, Mapping) or not (meta.get('dataset_meta') or meta.get('CLASSES')):
        problems.append(f'{file.name} has no class names: a DetInferencer would write COCO\'s. Keep '
                        'meta.dataset_meta when the weights are saved anew')
    return problems


def _torch_refuses(file: Path) -> str:
    if torch.__version__ < (2, 6) or file.suffix == '.safetensors':
        return ''  # loads whatever a pickle says
    try:
        torch.load(file, map_location='meta', weights_only=True)
    except pickle.UnpicklingError as error:
        words = str(error).split('Unsupported global: GLOBAL ')
        return words[1].split()[0] if len(words) > 1 else 'UnpicklingError'
    except Exception:  # our own reader has told the rest
        return ''
    return ''
