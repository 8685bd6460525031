_base_ = '_base_/faster-rcnn_r18-half_fpn_deeppcb.py'

# RefConv on top of a trained plain detector, which load_from has to name. Its plain twin is trained
# on from the same file (tools/dev/evidence.sh has the whole command):
# python tools/reproduce.py run --config THIS_FILE --against plain --name refconv --seeds 0 1 2 \
#     --cfg-options load_from=runs/deeppcb/plain-seed{seed}/train/epoch_8.pth --out runs/refconv
model = dict(
    backbone=dict(
        _delete_=True,
        type='RefConvBackbone',
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=32,
            frozen_stages=-1,
            norm_eval=False,
            style='pytorch')))
