"""Receptive-field analysis of a config's backbone and neck."""
from __future__ import annotations

from mmengine.config import Config

from ..openmmlab.configured_network import FeatureExtractor, build_extractor, load_weights
from .analyze import ReceptiveFieldError, Report, analyze


def analyze_config(cfg: Config, input_size: tuple[int, int],
                   checkpoint: str | None = None) -> tuple[Report, str]:
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
