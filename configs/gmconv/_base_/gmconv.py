# What every config in this folder shares. The plain rows import the package too: it lets torch >= 2.6
# read MMEngine's checkpoints (resume, test).
custom_imports = dict(imports=['gmconv_mmdet'], allow_failed_imports=False)

custom_hooks = [
    dict(type='SigmaLogHook'),  # and at the end a picture of all masks; idle in the plain rows
    dict(type='SafeCheckpoints'),  # docs/interrupted_training.md
    dict(type='ExactResumeHook'),
]
randomness = dict(seed=0)  # a resume is exact with a fixed seed only; another: randomness.seed=1

# Where all backbones here start from: a file, a URL or `torchvision://resnet50`. Overridden by the
# environment variable, or by `--cfg-options model.backbone.init_cfg.checkpoint=...`.
pretrained = '{{$GMCONV_PRETRAINED:torchvision://resnet50}}'
