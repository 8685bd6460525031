_base_ = '_base_/faster-rcnn_r18-half_fpn_deeppcb.py'

# The paper's GMConv: dynamic stem, static masks in all stages. Its plain twin:
# python tools/reproduce.py run --config THIS_FILE --against plain --seeds 0 1 2 --out runs/deeppcb
model = dict(backbone=dict(type='GMResNet', gm_stem='dynamic'))
