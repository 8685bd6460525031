#!/usr/bin/env bash
# The runs behind docs/results.md, one part at a time. Killed at any moment, the same command goes on.
#
#   GMCONV_SHARED_DATA=data bash tools/dev/evidence.sh PART [WORK_ROOT]
#
# Parts: recipe-scratch, recipe-warm (after cifar10), cifar10, deeppcb, deeppcb-recipe, deeppcb-warm (after
# deeppcb), fields and times (after deeppcb); pages prints all tables and pictures of docs/results.md anew from docs/data.
# The data folder holds deeppcb/ (annotations/, images/) and cifar10_{train,test}.npz or CIFAR-10's
# binary version. All runs use one CPU thread: two parts can run side by side on two cores.
# `SEEDS="5 6 7"` names other seeds than the plan's. Results are kept in docs/data/.
set -euo pipefail
cd "$(dirname "$0")/../.."
part=${1:?which part?}
root=${2:-work_dirs/evidence}
: "${GMCONV_SHARED_DATA:?set it to the folder of the data sets}"
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
config=configs/deeppcb/faster-rcnn_r18-half

cifar10() {  # arguments of the training, without data, folder and precision
    nice "$python" -m gmconv_mmdet.lab.cifar10 train --data "$GMCONV_SHARED_DATA" \
        --out "$out" --amp "$@"
}

recipe() {  # seven settings of one S-GMConv network, and what else is given
    cifar10 --epochs 8 --variant plain sgm "$@"              # the paper's: sigma 5, decay on masks
    cifar10 --epochs 8 --variant sgm --no-mask-decay "$@"
    cifar10 --epochs 8 --variant sgm --no-mask-decay --mask-lr-factor 100 "$@"
    cifar10 --epochs 8 --variant sgm --no-mask-decay --init-sigma 1 "$@"
    cifar10 --epochs 8 --variant sgm --no-mask-decay --init-sigma 2 "$@"
    cifar10 --epochs 8 --variant sgm --no-mask-decay --mask-lr-factor 10 "$@"
    cifar10 --epochs 8 --variant sgm --no-mask-decay --init-sigma 2 --mask-lr-factor 10 "$@"
}

compare() {  # the driver's arguments
    nice "$python" tools/reproduce.py run --jobs 1 --threads 1 --gpus 0 --keep-going "$@"
}

case $part in
recipe-scratch)
    out=$root/recipe
    recipe ;;
recipe-warm)
    out=$root/recipe
    recipe --warm-start "$root/cifar10/resnet20-plain-30e-amp-seed0.pth" ;;
cifar10)
    out=$root/cifar10
    cifar10 --epochs 30 --variant plain sgm gm --seeds 0 1 ;;
deeppcb)
    for seed in ${SEEDS:-0 1 2 3 4}; do  # seed by seed, so that what is finished can be compared at any time
        compare --config ${config}-gm_fpn_deeppcb.py --against plain --seeds "$seed" \
            --variant sgm ${config}-sgm_fpn_deeppcb.py \
            --variant gm-stem-l1 ${config}-gm-stem-l1_fpn_deeppcb.py \
            --out "$root/deeppcb" --results docs/data/deeppcb
    done ;;
deeppcb-recipe)  # the recommended recipe from scratch, beside the plain runs of the part before
    for seed in ${SEEDS:-0 1 2 3 4}; do
        compare --config ${config}-gm_fpn_deeppcb.py --against plain --rows gm-recipe --seeds "$seed" \
            --variant gm-recipe model.backbone.gm_cfg.init_sigma=2 \
            optim_wrapper.paramwise_cfg.custom_keys.sigma.decay_mult=0 \
            optim_wrapper.paramwise_cfg.custom_keys.sigma.lr_mult=10 \
            --out "$root/deeppcb" --results docs/data/deeppcb
    done ;;
deeppcb-warm)  # each seed on top of its own trained plain detector; ROWS="plain refconv" names fewer variants
    for seed in ${SEEDS:-2 3 4}; do
        compare --config ${config}-refconv_fpn_deeppcb.py --against plain --name refconv --seeds "$seed" \
            --rows ${ROWS:-plain refconv gm gm-nodecay gm-recipe} \
            --variant gm ${config}-gm_fpn_deeppcb.py \
            --variant gm-nodecay ${config}-gm_fpn_deeppcb.py \
            optim_wrapper.paramwise_cfg.custom_keys.sigma.decay_mult=0 \
            --variant gm-recipe ${config}-gm_fpn_deeppcb.py model.backbone.gm_cfg.init_sigma=2 \
            optim_wrapper.paramwise_cfg.custom_keys.sigma.decay_mult=0 \
            optim_wrapper.paramwise_cfg.custom_keys.sigma.lr_mult=10 \
            --out "$root/deeppcb-warm" --results docs/data/deeppcb-warm \
            --cfg-options "load_from=$root/deeppcb/plain-seed{seed}/train/epoch_8.pth"
    done ;;
fields)  # masks and effective receptive fields of what the detectors of deeppcb learned
    out=$root/fields
    data=$GMCONV_SHARED_DATA/deeppcb
    seeds=${SEEDS:-0 1 2 3 4}
    first=${seeds%% *}  # of which the pictures are
    mkdir -p "$out/configs" docs/data/fields
    for seed in $seeds; do
        models=()
        for variant in plain sgm gm gm-stem-l1 gm-recipe; do
            run=$root/deeppcb/$variant-seed$seed
            if [ -f "$run/result.json" ]; then  # finished
                cp "$run/train/config.py" "$out/configs/$variant.py"
                models+=("$out/configs/$variant.py,$run/train/epoch_8.pth")
            fi
        done
        nice "$python" tools/analysis_tools/visualize_erf.py objects "${models[@]}" --crop 161 \
            --annotations "$data/annotations/instances_test.json" --images "$data/images" \
            --per-band 20 --out "$out/seed$seed"
        cp "$out/seed$seed/erf.csv" "docs/data/fields/seed$seed.csv"
    done
    for variant in gm gm-recipe; do
        run=$root/deeppcb/$variant-seed$first
        if [ -f "$run/result.json" ]; then
            nice "$python" tools/analysis_tools/visualize_masks.py "$out/configs/$variant.py" \
                "$run/train/epoch_8.pth" --images "$data/images" --num-images 20 \
                --out "$out/masks-$variant"
            cp "$out/masks-$variant/masks.png" "docs/images/masks_deeppcb_$variant.png"
        fi
    done
    for map in C5 P; do
        cp "$out/seed$first/erf_$map.png" "docs/images/erf_deeppcb_$map.png"
    done
    "$python" -c 'import sys; from PIL import Image  # 256 colours, a third of the size
for name in sys.argv[1:]: Image.open(name).convert("RGB").quantize(256).save(name, optimize=True)
' docs/images/{masks,erf}_deeppcb_*.png ;;
times)  # inference of the trained backbones; on an idle machine
    for seed in ${SEEDS:-3}; do
        "$python" tools/dev/time_trained.py "$root/deeppcb" --seed "$seed" --out "docs/data/times/seed$seed.json"
    done ;;
pages)
    "$python" tools/dev/results_page.py
    exit ;;
*)
    echo "no part $part" >&2
    exit 2 ;;
esac
# Folders of this machine are nobody else's matter.
case $part in deeppcb*) sed -i "s#$GMCONV_SHARED_DATA/#data/#g; s#$root/##g" docs/data/deeppcb*/*.json ;; esac
# What the trainings of CIFAR-10 measured, without their networks.
for out in recipe cifar10; do
    if compgen -G "$root/$out/*.json" > /dev/null; then
        mkdir -p "docs/data/$out"
        cp "$root/$out"/*.json "docs/data/$out/"
    fi
done
