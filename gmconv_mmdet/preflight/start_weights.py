"""The weights that a config starts from: there, fitting and really loaded."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

import torch.nn as nn
from torch import Tensor

from ..checkpoints.checkpoint_file import CheckpointError, read_checkpoint
from ..checkpoints.fetch import cache_path, local_file, resolve
from ..checkpoints.usable_tensors import tensors_by_name
from ..messages import shortened
from ..openmmlab.config_file import one_line
from ..openmmlab.initializer import GMPretrainedInit
from ..openmmlab.start_weights import is_gm_pretrained, leave_out_start_weights, start_weights
from ..openmmlab.zoos import register_zoos
from ..pretrained.detector import load_detector
from ..pretrained.load import load_pretrained

_ANSWER_WITHIN = 5  # seconds


@dataclass
class Start:
    """What a model starts from.

    Attributes:
        problems: one sentence or two each.
        loaded: one line for each source that was loaded.
        of: names of the modules whose ``init_cfg`` names weights, '' for the whole model; they may
            have failed to load.
    """
    problems: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    of: list[str] = field(default_factory=list)

    def reaches(self, name: str) -> bool:
        """Whether a module of this name is meant to start from weights."""
        return any(not own or name == own or name.startswith(f'{own}.') or own.startswith(f'{name}.')
                   for own in self.of)


def load_start_weights(model: nn.Module, load_from: str | None) -> Start:
    """Initialise a model as a training would, and say what became of its start weights.

    Nothing is downloaded: a link counts as there if its file is in torch hub's folder, and as
    usable if its address answers.

    Args:
        model (nn.Module): as built from a config.
        load_from (str, optional): of the config, loaded last.
    """
    start = Start()
    entries = list(start_weights(model))
    leave_out_start_weights(model)
    if hasattr(model, 'init_weights'):
        model.init_weights()
    for name, module, init in entries:
        start.of.append(name)
        _load(start, name, module, init)
    if load_from:
        start.of.append('')
        file = _file(start, str(load_from), 'load_from')
        if file is not None:
            _load_plain(start, 'load_from', model, str(load_from), file, '')
    return start


def _load(start: Start, name: str, module: nn.Module, init: dict) -> None:
    source = str(init.get('checkpoint'))
    where = f'init_cfg of {name or "the model"}'
    file = _file(start, source, where)
    if file is None:
        return
    if not is_gm_pretrained(init):
        return _load_plain(start, where, module, source, file, init.get('prefix') or '')
    initialiser = GMPretrainedInit(**{key: value for key, value in init.items() if key != 'type'})
    options = initialiser.options
    try:
        if hasattr(module, 'backbone') and not options['prefix'] and not options['allow']:
            report = load_detector(module, file, options['preserve'])
        else:
            report = load_pretrained(module, file, **options)
    except (OSError, ValueError) as error:
        start.problems.append(f'{where}: {one_line(error, 600)}')
        return
    start.loaded.append(f'{source}: {len(report.loaded) + len(report.folded)} tensors loaded into '
                        f'{name or "the model"}, {len(report.initialized)} start anew')


def _file(start: Start, source: str, where: str) -> Path | None:
    """The local file of a source; None, and a problem, where it is not there."""
    if '://' not in source:
        path = Path(source).expanduser()
        if not path.is_file():
            start.problems.append(f'{where} names {source}, which is not there: training would stop '
                                  'at once. Correct the path, or train from scratch: init_cfg=None, '
                                  'frozen_stages=-1, norm_eval=False')
            return None
        return path
    register_zoos()
    try:
        link = resolve(source)
        kept = cache_path(link)
        if kept.is_file():
            return local_file(source)
    except CheckpointError as error:
        start.problems.append(f'{where}: {error}')
        return None
    fault = unreachable(link)
    if fault:
        start.problems.append(
            f'{where} names {source}, which is not on this machine, and its address does not answer '
            f'({fault}). Without internet: fetch {link} elsewhere and put it at {kept}, or name a '
            'local file, or train from scratch: init_cfg=None, frozen_stages=-1, norm_eval=False')
    else:
        start.loaded.append(f'{source} will be downloaded when training starts; it was not tried')
    return None


def unreachable(link: str) -> str:
    """Why a link does not answer, '' where it does."""
    try:
        urlopen(Request(link, method='HEAD'), timeout=_ANSWER_WITHIN).close()
    except (OSError, ValueError) as error:
        return one_line(error, 120)
    return ''


def _load_plain(start: Start, where: str, module: nn.Module, source: str, file: Path,
                prefix: str) -> None:
    """As MMEngine loads: what has the same name and shape, and not a word about the rest."""
    try:
        content = read_checkpoint(file)
        found = tensors_by_name(content.get('state_dict', content))
    except (OSError, ValueError) as error:
        start.problems.append(f'{where}: {error}')
        return
    given = {name[len('module.'):] if name.startswith('module.') else name: tensor
             for name, tensor in found.items()}
    if prefix:
        dotted = prefix if prefix.endswith('.') else f'{prefix}.'
        given = {name[len(dotted):]: tensor for name, tensor in given.items()
                 if name.startswith(dotted)}
    wanted = {name: tensor for name, tensor in module.state_dict().items()
              if not name.endswith('num_batches_tracked')}
    fitting = fitting_names(given, wanted)
    # Heads may well be of other classes; what counts then is the backbone.
    core = [name for name in wanted if name.startswith('backbone.')] or list(wanted)
    core_fits = len(set(core) & set(fitting))
    if 2 * core_fits < len(core):
        start.problems.append(
            f'{where}: {source} has {core_fits or "none"} of the {len(core)} tensors of '
            f'{"the backbone" if core[0].startswith("backbone.") else type(module).__name__} under '
            'the same name and shape, and MMEngine would train on without a word. '
            + _why(found, given, wanted, where))
        return
    module.load_state_dict({name: given[name] for name in fitting}, strict=False)
    start.loaded.append(f'{source}: {len(fitting)} of {len(wanted)} tensors loaded by {where}')


def fitting_names(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Names that are in both with the same shape."""
    return [name for name, tensor in given.items()
            if name in wanted and wanted[name].shape == tensor.shape]


def _why(found: Mapping[str, Tensor], given: Mapping[str, Tensor], wanted: Mapping[str, Tensor],
         where: str) -> str:
    """Why tensors have no place, and what to do."""
    pretrained = 'type=\'GMPretrained\' in init_cfg finds and checks names'
    for prefix in dict.fromkeys(f'{name.split(".")[0]}.' for name in found):
        inner = {name[len(prefix):]: tensor for name, tensor in found.items()
                 if name.startswith(prefix)}
        if 2 * len(fitting_names(inner, wanted)) > len(wanted):
            return f'Its names start with {prefix}: give prefix={prefix!r}; or {pretrained}'
    if where == 'load_from':
        bare = {name[len('backbone.'):]: tensor for name, tensor in wanted.items()
                if name.startswith('backbone.')}
        if 2 * len(fitting_names(given, bare)) > len(bare):
            return ('It is a backbone\'s: take load_from out, and set model.backbone.init_cfg='
                    'dict(type=\'GMPretrained\', checkpoint=...)')
    if any(name in wanted for name in given):
        return ('Names agree and shapes do not: it is of another depth or width. Take the weights '
                'of this network, or the network of these weights')
    return (f'Its names are {shortened(list(found))}, the network\'s {shortened(list(wanted))}: take '
            f'weights of this network; {pretrained}')
