# What every config in this folder shares. The plain rows import the package too: it lets torch >= 2.6
# read MMEngine's checkpoints (resume, test).
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)

# Sigmas to the log and, at the end, a picture of all masks. Idle in the plain rows.
custom_hooks = [dict(type='SigmaLogHook')]

# Where all backbones here start from: a file, a URL or `torchvision://resnet50`. Overridden by the
# environment variable, or by `--cfg-options model.backbone.init_cfg.checkpoint=...`.
pretrained = '{{$GMCONV_PRETRAINED:torchvision://resnet50}}'
