"""Run the stages of tools/gpu_evidence.sh in the Python that calls this."""
import argparse
import sys
import time
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from gmconv_mmdet.evidence.stages import STAGES, Options, run_stage


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu_evidence'))
    parser.add_argument('--data', type=Path,
                        help='folder with coco128/ and cifar10_{train,test}.npz')
    parser.add_argument('--stages', nargs='+', choices=STAGES, default=STAGES)
    parser.add_argument('--minutes', type=float, default=25., help='begin nothing after this long')
    parser.add_argument('--rehearse', action='store_true', help='everything tiny, on a CPU too')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='on CIFAR')
    parser.add_argument('--jobs', type=int, default=3, help='trainings on CIFAR at once')
    parser.add_argument('--iterations', type=int, default=300, help='on COCO128')
    parser.add_argument('--images-per-gpu', type=int, default=4, help='on COCO128')
    parser.add_argument('--checkpoint', help='weights of the backbone on COCO128; else random')
    args = parser.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if device == 'cpu' and not args.rehearse:
        print('gpu_evidence: torch finds no CUDA device here; --rehearse runs everything tiny on '
              'the CPU', file=sys.stderr)
        return 1
    if args.data is None and set(args.stages) - {'stack', 'benchmark'}:
        print('gpu_evidence: all stages but stack and benchmark need --data: name a folder, or '
              '--stages stack benchmark', file=sys.stderr)
        return 1
    MMLogger.get_instance('gpu_evidence', log_level='WARNING')  # the last one made is used
    args.out.mkdir(parents=True, exist_ok=True)
    options = Options(
        args.out, device, time.time() + 60 * args.minutes, args.data, args.rehearse,
        tuple(args.seeds), args.jobs, args.iterations, args.images_per_gpu, args.checkpoint)
    begun = time.time()

    def say(text: str) -> None:
        print(f'[{time.time() - begun:5.0f} s] {text}', flush=True)

    try:
        whole = [run_stage(stage, options, say) for stage in args.stages]
    except KeyboardInterrupt:
        print('stopped; the same command goes on', file=sys.stderr)
        return 130
    say(f'results in {args.out}: ' + ', '.join(
        f'{stage} {"whole" if done else "NOT whole"}' for stage, done in zip(args.stages, whole)))
    return 0 if all(whole) else 3


if __name__ == '__main__':
    sys.exit(main())
