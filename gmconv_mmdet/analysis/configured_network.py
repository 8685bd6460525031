"""The part of a configured model that sees the image: its backbone and its neck."""

import copy
from typing import Any, ContextManager, Dict, List, Mapping, Optional, Tuple

import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from ..config_file import building
from ..weights.checkpoint_file import CheckpointError, read_checkpoint
from ..weights.usable_tensors import refuse_unusable, tensors_by_name
from .fpn_assignment import FINEST_SCALE
from .receptive_field import ReceptiveFieldError, Report, analyze


class FeatureExtractor(nn.Module):
    """A backbone followed by its necks: ``(N, 3, H, W)`` to a tuple of feature maps."""

    def __init__(self, backbone: nn.Module, necks: List[nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        if len(necks) == 1:
            self.neck = necks[0]
        else:
            self.necks = nn.ModuleList(necks)

    def forward(self, image: Tensor):
        features = self.backbone(image)
        for neck in [self.neck] if hasattr(self, 'neck') else self.necks:
            features = neck(features)
        return features


def find_detector(model: Mapping, path: Tuple[str, ...] = ()) -> Tuple[Tuple[str, ...], Mapping]:
    """The part of a model config that holds ``backbone``, and the keys which lead there.

    Raises:
        ValueError: if there is none (``model.detector`` of trackers and the like is found).
    """
    if isinstance(model.get('backbone'), Mapping):
        return path, model
    for key, value in model.items():
        if isinstance(value, Mapping):
            try:
                return find_detector(value, path + (key,))
            except ValueError:
                continue
    raise ValueError('the config has no model with a backbone, nothing to analyse')


def without_weights(cfg: Any) -> Any:
    """A copy of a model config that builds without loading or downloading anything."""
    if isinstance(cfg, Mapping):
        return {key: without_weights(value) for key, value in cfg.items()
                if key not in ('init_cfg', 'pretrained')}
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_weights(value) for value in cfg)
    return copy.deepcopy(cfg)


def build_extractor(cfg: Config, backbone: Optional[Mapping] = None,
                    with_neck: bool = True) -> FeatureExtractor:
    """Build the backbone and the neck of a config, without weights.

    Args:
        cfg: a loaded config of MMDetection or MMPretrain.
        backbone: a backbone config to use instead of the config's own.
        with_neck: False for the backbone alone.
    """
    _, detector = find_detector(cfg['model'])
    necks = detector.get('neck') if with_neck else None
    necks = [] if necks is None else necks if isinstance(necks, (list, tuple)) else [necks]
    with config_scope(cfg), building('the backbone or the neck'):
        return FeatureExtractor(MODELS.build(without_weights(backbone or detector['backbone'])),
                                [MODELS.build(without_weights(neck)) for neck in necks])


def config_scope(cfg: Config) -> ContextManager[None]:
    """Names in configs are looked up in the config's default scope inside this context."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmdet')


def configured_scale(cfg: Config) -> Optional[Tuple[Tuple[int, int], bool]]:
    """The size at which images reach the network: ``((W, H), keep_ratio)``, or None.

    It is the last resize or crop of the test pipeline, else the last crop of the training pipeline
    (CIFAR's images have their size, CornerNet tests at the images' own). As in MMDetection's
    ``Resize``: with ``keep_ratio`` the image fits into the scale, whichever way it is turned.
    """
    found = [_scale(step) for step in _steps(_pipeline(cfg, 'test'))]
    found += [_scale(step) for step in _steps(_pipeline(cfg, 'train'))
              if 'Crop' in str(step.get('type'))] if not any(found) else []
    found = [scale for scale in found if scale is not None]
    return found[-1] if found else None


def _scale(step: Mapping) -> Optional[Tuple[Tuple[int, int], bool]]:
    kind = str(step.get('type', '')).rpartition('.')[2]
    scale = step.get('crop_size') if 'Crop' in kind else \
        step.get('scale') or step.get('img_scale') if 'Resize' in kind else None
    if scale is None:
        return None
    if isinstance(scale, (list, tuple)) and isinstance(scale[0], (list, tuple)):
        scale = scale[-1]   # several scales: the last is the largest
    width, height = (scale, scale) if isinstance(scale, int) else scale
    return (width, height), bool(step.get('keep_ratio', False))


def configured_size(cfg: Config) -> Optional[Tuple[int, int]]:
    """The input size ``(H, W)`` that a config implies: the test scale, padded as the data
    preprocessor pads; None where the config names no scale."""
    found = configured_scale(cfg)
    if found is None:
        return None
    (width, height), _ = found
    divisor = preprocessor_config(cfg).get('pad_size_divisor') or 1
    return tuple(-(-n // divisor) * divisor for n in (height, width))


def preprocessor_config(cfg: Config) -> Mapping:
    for place in (cfg['model'], find_detector(cfg['model'])[1], cfg):
        found = place.get('data_preprocessor')
        while isinstance(found, Mapping) and 'data_preprocessor' in found:   # several branches
            found = found['data_preprocessor']
        if isinstance(found, Mapping):
            return found
    return {}


def _pipeline(cfg: Config, phase: str) -> List[Mapping]:
    dataset: Any = (cfg.get(f'{phase}_dataloader') or {}).get('dataset', {})
    while isinstance(dataset, Mapping) and 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return (dataset.get('pipeline') if isinstance(dataset, Mapping) else None) or \
        cfg.get(f'{phase}_pipeline') or []


def _steps(pipeline: Any) -> List[Dict]:
    """All transforms, those nested in others (test-time augmentation) included."""
    steps = []
    for item in pipeline if isinstance(pipeline, (list, tuple)) else []:
        if isinstance(item, Mapping):
            steps += [item] + _steps(item.get('transforms'))
        else:
            steps += _steps(item)
    return steps


def roi_assignment(cfg: Config) -> Tuple[Optional[int], float]:
    """How many pyramid levels the box head pools from (None without such a head), and the finest
    scale by which boxes are assigned to them."""
    extractor = find_detector(cfg['model'])[1].get('roi_head', {}).get('bbox_roi_extractor')
    if isinstance(extractor, (list, tuple)):
        extractor = extractor[0]
    if not extractor:
        return None, FINEST_SCALE
    return len(extractor['featmap_strides']), extractor.get('finest_scale', FINEST_SCALE)


def load_weights(network: FeatureExtractor, checkpoint: str) -> int:
    """Load what a detector's checkpoint holds for its backbone and neck.

    Returns:
        the number of tensors loaded.

    Raises:
        ValueError: if the checkpoint can't be read, holds nothing for this network, other shapes,
            or values that are no numbers.
    """
    content = read_checkpoint(checkpoint)
    content = tensors_by_name(content.get('state_dict', content))
    wanted = network.state_dict()
    found = {}
    for key, value in content.items():
        # A checkpoint of a tracker or of a model in a wrapper has a prefix more.
        name = next((key[len(p):] for p in ('', 'module.', 'detector.') if key.startswith(p)
                     and key[len(p):] in wanted), None)
        if name is not None:
            if value.shape != wanted[name].shape:
                raise ValueError(f'{checkpoint}: {key} is {tuple(value.shape)}, the network needs '
                                 f'{tuple(wanted[name].shape)}')
            found[name] = value
    if not found:
        raise ValueError(f'{checkpoint} holds no weight of this backbone')
    try:
        refuse_unusable(found)
    except CheckpointError as error:
        raise CheckpointError(f'{checkpoint}: {error}') from error
    network.load_state_dict(found, strict=False)
    return len(found)


def analyze_config(cfg: Config, input_size: Tuple[int, int],
                   checkpoint: Optional[str] = None) -> Tuple[Report, str]:
    """Analyse a config's backbone and neck; the backbone alone if the neck has no receptive field.

    Returns:
        the report, and a note on what was left out (empty if nothing was).
    """
    network, note = build_extractor(cfg), ''
    if checkpoint is not None:
        count = load_weights(network, checkpoint)
        note = f'{count} of {len(network.state_dict())} tensors loaded from {checkpoint}'
    try:
        return analyze(network, input_size), note
    except ReceptiveFieldError as error:
        alone = FeatureExtractor(network.backbone, [])
        report = analyze(alone, input_size)   # the backbone itself may be refused
        return report, f'{note}\nbackbone alone, the neck is refused: {error}'.strip()
