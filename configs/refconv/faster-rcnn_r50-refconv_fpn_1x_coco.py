# RefConv on top of the backbone's ImageNet kernels, as long on COCO as the plain baseline.
_base_ = './faster-rcnn_r50_fpn_1x_coco.py'

# `frozen_stages=1` keeps stem and L1 as they are: only L2-L4 have anything to refocus. Batch norms
# keep ImageNet's statistics (`norm_eval=True`), which fit the pretrained kernels: `identity`, ours,
# starts from these.
model = dict(
    backbone=dict(
        _delete_=True,
        type='RefConvBackbone',
        stem=False,
        body=['layer2', 'layer3', 'layer4'],
        ref_cfg=dict(init='identity'),
        backbone=_base_.model.backbone))
