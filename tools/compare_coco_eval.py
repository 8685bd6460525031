"""Compare pycocotools and faster-coco-eval: their twelve numbers and their times.

    python tools/compare_coco_eval.py instances_val2017.json
    python tools/compare_coco_eval.py coco128/annotations/instances_all.json --images 5000

Detections are made up from the annotations (a seeded random number generator), 100 an image.
"""
import argparse
import sys
from pathlib import Path

import numpy as np

from gmconv_mmdet.evaluation.compare import compare, plausible_detections, repeat_images
from gmconv_mmdet.reproduce.coco_entries import check_entries
from gmconv_mmdet.reproduce.preflight import read_annotations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('annotations', type=Path, help='a COCO annotation file')
    parser.add_argument('--images', type=int,
                        help='this many images, the file\'s over and over; default: once each')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    annotations, faults = read_annotations(args.annotations)
    faults = faults or check_entries(annotations, args.annotations)
    if faults:
        print('\n'.join(f'compare_coco_eval: {fault}' for fault in faults), file=sys.stderr)
        return 1
    if args.images is not None:
        annotations = repeat_images(annotations, args.images)
    detections = plausible_detections(annotations, np.random.default_rng(args.seed))
    print(f'{len(annotations["images"])} images, {len(annotations["annotations"])} annotations, '
          f'{len(detections)} detections')
    print(compare(annotations, detections).text())
    return 0


if __name__ == '__main__':
    sys.exit(main())
