"""Draw effective receptive fields of models side by side, with numbers (Fig. 8).

    python tools/analysis_tools/visualize_erf.py network CONFIG[,CHECKPOINT] ... --out DIR
    python tools/analysis_tools/visualize_erf.py objects CONFIG[,CHECKPOINT] ... --out DIR

`network` measures the central units of chosen outputs over images, `objects` the units at the
centres of objects of each COCO size band; without --images and --annotations over the test set of
the first config. Interrupted, the same command goes on. Without a checkpoint weights are random. See
docs/visualization.md.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gmconv_mmdet.visualization.coco_objects import draw_objects
from gmconv_mmdet.visualization.measured_model import load_model, model_labels
from gmconv_mmdet.visualization.erf_picture import write_gallery
from gmconv_mmdet.visualization.erf_result import result_file
from gmconv_mmdet.visualization.erf_units import measure_network, measure_objects
from gmconv_mmdet.visualization.image_files import configured_test_set, image_files
from gmconv_mmdet.openmmlab.config_file import read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modes = parser.add_subparsers(dest='mode', required=True)
    network = modes.add_parser('network', help='central units of outputs, averaged over images')
    objects = modes.add_parser('objects', help='units at the centres of objects, by size of object')
    for mode in (network, objects):
        mode.add_argument('models', nargs='+', metavar='CONFIG[,CHECKPOINT]')
        mode.add_argument('--out', required=True, type=Path, metavar='DIR',
                          help='folder for results (.npz), pictures and table')
        mode.add_argument('--images', type=Path, metavar='FOLDER', help='folder of the images')
        mode.add_argument('--device', default='cpu', help='cpu (default), cuda, cuda:1 ...')
    network.add_argument('--outputs', nargs='+', default=['C5'], metavar='NAME',
                         help='of C2 ... C5 and P2 ... P6 (default: C5)')
    network.add_argument('--num-images', type=int, default=50, metavar='N',
                         help='the first N images (default: %(default)s)')
    network.add_argument('--size', type=int, default=1024, metavar='PX',
                         help='stretch images to PX x PX (default: %(default)s)')
    objects.add_argument('--annotations', type=Path, metavar='JSON', help='COCO-format annotations')
    objects.add_argument('--per-band', type=int, default=50, metavar='N',
                         help='objects of each size band, drawn with a fixed seed (default: '
                         '%(default)s)')
    objects.add_argument('--size', type=int, metavar='PX',
                         help="fit images into PX x PX; default: each config's test scale")
    objects.add_argument('--crop', type=int, default=513, metavar='PX',
                         help='odd side of the part that is kept and drawn (default: %(default)s)')
    return parser.parse_args()


def measure(args: argparse.Namespace) -> list:
    configs, checkpoints = zip(*((config, checkpoint or None) for config, _, checkpoint in
                                 (model.partition(',') for model in args.models)))
    annotations, folder = configured_test_set(read_config(configs[0])) or (None, None)
    folder = args.images or folder
    if folder is None:
        raise ValueError(f'{configs[0]} names no test set: give --images')
    results = []
    if args.mode == 'network':
        images = image_files(folder, args.num_images)
    else:
        annotations = args.annotations or annotations
        objects = draw_objects(annotations, args.per_band)
    for config, checkpoint, label in zip(configs, checkpoints, model_labels(configs, checkpoints)):
        model = load_model(config, checkpoint, label, args.device)
        path = result_file(args.out, label)
        results.append(
            measure_network(model, images, folder, path, args.outputs, args.size)
            if args.mode == 'network' else
            measure_objects(model, annotations, folder, objects, path, args.crop, args.size))
    return results


def main() -> None:
    args = parse_args()
    print(write_gallery(measure(args), args.out))
    print(f'\nWrote {args.out}: ' + ', '.join(path.name for path in sorted(args.out.glob('erf*'))))


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('interrupted; the same command goes on from here')
    except (ValueError, OSError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
