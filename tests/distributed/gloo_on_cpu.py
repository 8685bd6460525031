"""Imported by a config (`custom_imports`): joins the processes of a launcher without a GPU.

MMEngine 0.10.7's launchers call torch.cuda.set_device() and so need one, but leave a process group
alone that is there already. Its wrapper needs telling too:
`model_wrapper_cfg`, as in test_launch_commands.py.
"""
import os

import torch.distributed as dist

if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not dist.is_initialized():
    dist.init_process_group('gloo')
