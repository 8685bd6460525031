"""mmdet's COCO metric with the faster-coco-eval package in place of pycocotools' evaluation."""
from __future__ import annotations

import functools

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS

from ..openmmlab.private_api import coco_eval_replaced


def faster_coco_eval():
    """The class that stands in for pycocotools' ``COCOeval``.

    Raises:
        ImportError: the package isn't installed.
    """
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise ImportError('FastCocoMetric needs the faster-coco-eval package: pip install '
                          'faster-coco-eval, or use CocoMetric') from error

    class FasterCOCOeval(COCOeval_faster):

        def summarize(self) -> None:
            super().summarize()
            # pycocotools' first number counts 100 detections an image and class, the five after it
            # the largest of `maxDets`: 1000 in mmdet. faster-coco-eval takes the largest for all.
            at_100 = [count == 100 for count in self.params.maxDets]
            precision = self.eval['precision'][:, :, :, 0, at_100]  # -1: nothing annotated
            known = precision[precision > -1]
            self.stats[0] = self.all_stats[0] = known.mean() if known.size else -1
            self.print_function(f' AP with 100 detections an image and class: {self.stats[0]:0.3f}')

    return functools.partial(FasterCOCOeval, print_function=print)


@METRICS.register_module()
class FastCocoMetric(CocoMetric):
    """:class:`mmdet.evaluation.CocoMetric`, the same numbers in a fraction of the time.

    Only the matching of boxes is another program's: files, arguments, metrics and their names are
    mmdet's. Needs the faster-coco-eval package (the extra ``eval``). While it evaluates, mmdet's
    ``CocoMetric`` uses that package in all threads of the process.

    OneDL's mmdet has a ``FasterCocoMetric`` of its own, with the same package.

    Args:
        *args, **kwargs: of ``CocoMetric``. ``use_mp_eval``, a third way to evaluate, must stay off.

    Raises:
        ImportError: faster-coco-eval isn't installed. Raised when the metric is built, not after
            the first epoch.
        ValueError: ``use_mp_eval`` is on.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self, 'use_mp_eval', False):
            raise ValueError('use_mp_eval chooses mmdet\'s own parallel evaluation: use it with '
                             'CocoMetric, or leave it off')
        self._evaluator = faster_coco_eval()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """As ``CocoMetric.compute_metrics``."""
        with coco_eval_replaced(self._evaluator):
            return super().compute_metrics(results)
