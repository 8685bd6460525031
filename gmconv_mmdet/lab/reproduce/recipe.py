"""What the driver makes runs of: the rows of a paper's table, or a config and its variants."""
from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from . import history, variants
from .preflight import COCO_2017_IMAGES
from .run_config import RunOptions, run_config
from .run_folder import RunFolder, read_json, write_json


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


class Recipe:
    """Interface: how a run's config comes about, and what its result says beside the metrics."""

    def expected_images(self, rehearsal: bool) -> dict | None:
        """Numbers of images that the data must have; None for any."""
        return None

    def config(self, run: RunFolder) -> Config:
        """The config of a run."""
        raise NotImplementedError

    def settings(self, run: RunFolder, cfg: Config) -> dict:
        """What has to stay the same for the whole of a run, for ``run.json``."""
        raise NotImplementedError

    def complete(self, run: RunFolder, cfg: Config) -> None:
        """Put into a new run's folder what else it needs. May change ``cfg``."""

    def record(self, run: RunFolder, cfg: Config, checkpoint: Path) -> dict:
        """Facts for the result."""
        raise NotImplementedError


class TableRecipe(Recipe):
    """Rows of Table III or V."""

    def __init__(self, options: RunOptions, classes: tuple[str, ...] | None = None) -> None:
        self.options, self.classes = options, classes

    def expected_images(self, rehearsal: bool) -> dict | None:
        return None if rehearsal else COCO_2017_IMAGES

    def config(self, run: RunFolder) -> Config:
        return run_config(run.row, run.seed, self.options, self.classes)

    def settings(self, run: RunFolder, cfg: Config) -> dict:
        data = self.options.data._asdict()
        return dict(data={field: str(value) for field, value in data.items()}, amp=self.options.amp)

    def record(self, run: RunFolder, cfg: Config, checkpoint: Path) -> dict:
        return dict(detector=run.row.detector, backbone=run.row.backbone)


class ComparisonRecipe(Recipe):
    """A config and its variants."""

    def __init__(self, comparison: variants.Comparison) -> None:
        self.comparison = comparison

    def config(self, run: RunFolder) -> Config:
        return self._config(run.row, run.seed)

    def _config(self, variant: variants.Variant, seed: int) -> Config:
        with quietly():
            return variants.variant_config(variant, seed, self.comparison.options)

    def settings(self, run: RunFolder, cfg: Config) -> dict:
        return dict(baseline=self.comparison.baseline.name, config=variants.config_hash(cfg))

    def complete(self, run: RunFolder, cfg: Config) -> None:
        """Initial weights in common with the baseline, unless the config brings a detector."""
        paired = 'the config\'s load_from: the whole detector'
        if not cfg.get('load_from'):
            baseline = self._config(self.comparison.baseline, run.seed)
            initial = run.path / variants.INITIAL
            with quietly():
                paired = variants.write_initial_weights(cfg, baseline, initial)
            cfg.load_from = str(initial)
        write_json(run.path / 'paired.json', dict(initial_weights=paired))

    def record(self, run: RunFolder, cfg: Config, checkpoint: Path) -> dict:
        initial = run.path / variants.INITIAL
        paired = read_json(run.path / 'paired.json') or {}
        try:
            with quietly():
                samples = history.sample_detections(cfg, checkpoint)
        except Exception as error:  # pictures: no reason to lose a run, whatever the data are
            samples = [dict(error=f'{type(error).__name__}: {error}')]
        return dict(
            variant=run.row.name, order=self.comparison.variants.index(run.row),
            baseline=self.comparison.baseline.name,
            base_config=run.row.config.name,
            overrides=list(run.row.overrides), shared_overrides=list(self.comparison.options),
            plain_twin=run.row.is_plain_twin, paired=paired.get('initial_weights'),
            masks=dict(initial=history.trained_masks(initial, cfg) if initial.exists() else [],
                       final=history.trained_masks(checkpoint, cfg)),
            samples=samples)
