#!/usr/bin/env bash
# What to run on a machine with a GPU, in an environment that `tools/doctor.py` finds whole.
#
#   bash tools/dev/gpu.sh DATA [OUT]     (DATA has coco128/ and cifar10_{train,test}.npz)
#
# A part that has ended is not repeated, and the trainings go on where they were cut off.
# Results: OUT (work_dirs/gpu by default). To publish the times: copy OUT/benchmark-*.json to
# docs/benchmarks and see `python tools/analysis_tools/benchmark.py --help`.
set -euo pipefail
(($# >= 1)) || { sed -n '2,/^set -/{s/^# \{0,1\}//;/^set -/d;p;}' "${BASH_SOURCE[0]}" >&2; exit 2; }
DATA="$(cd "$1" && pwd)"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
OUT="${2:-work_dirs/gpu}" PYTHON="${PYTHON:-python}"
mkdir -p "$OUT"

part() {  # part NAME COMMAND...: unless it has ended before
    [[ -e "$OUT/$1.done" ]] && return
    echo "== $1" && "${@:2}" && touch "$OUT/$1.done"
}

ops() {
    "$PYTHON" - <<'PYTHON_END'
import torch
from mmcv.ops import deform_conv2d, nms, roi_align
torch.manual_seed(0)
corners = 40 * torch.rand(300, 2)
boxes, scores = torch.cat([corners, corners + 4 + 20 * torch.rand(300, 2)], 1), torch.rand(300)
rois = torch.cat([torch.arange(20)[:, None] % 2, boxes[:20]], 1)
image, offset, weight = torch.rand(2, 8, 48, 48), torch.rand(2, 18, 48, 48) - 0.5, torch.rand(4, 8, 3, 3)

def gradients(op, *inputs):  # the output's and the inputs'
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    out = op(*leaves)
    out.square().mean().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]

for name, call in {
        'nms': lambda d: nms(boxes.to(d), scores.to(d), 0.5),
        'roi_align': lambda d: gradients(
            lambda x: roi_align(x, rois.to(d), (7, 7), 0.5, 2, 'avg', True), image.to(d)),
        'deform_conv2d': lambda d: gradients(
            lambda x, o, w: deform_conv2d(x, o, w, 1, 1), image.to(d), offset.to(d), weight.to(d)),
}.items():
    worst = max(float((a - b.cpu()).abs().max()) for a, b in zip(call('cpu'), call('cuda')))
    print(f'{name}: largest difference between CPU and GPU {worst:.1e}')
    assert worst < 0.05, name  # values are of the order of 1 to 10, TF32 has ten bits
PYTHON_END
}

benchmark() { "$PYTHON" tools/analysis_tools/benchmark.py --device cuda "${@:2}" --json "$OUT/benchmark-$1.json"; }

part ops ops
for amp in '' --amp; do
    part "backbone$amp" benchmark "backbone$amp" --batch 8 --size 800 1216 $amp
    part "detector$amp" benchmark "detector$amp" --network detector --work step --size 800 1333 $amp
done
part channels_last benchmark channels_last --amp --channels-last --batch 8 --size 800 1216
part cifar "$PYTHON" -m gmconv_mmdet.lab.cifar10 train --data "$DATA" --out "$OUT/cifar10" \
    --device cuda --variant plain sgm gm --seeds 0 1 2
coco="$DATA/coco128"
part coco128 "$PYTHON" tools/reproduce.py run --table V --rows faster-rcnn --gpus 1 --data-root "$coco" \
    --work-root "$OUT/coco128" --cfg-options optim_wrapper.type=AmpOptimWrapper train_dataloader.batch_size=4 \
    {train,val,test}_dataloader.dataset.data_prefix.img=images/ \
    train_dataloader.dataset.ann_file=annotations/instances_train.json \
    {val,test}_dataloader.dataset.ann_file=annotations/instances_val.json \
    {val,test}_evaluator.ann_file="$coco/annotations/instances_val.json"
