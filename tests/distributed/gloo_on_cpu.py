"""Imported by a config (`custom_imports`): joins the processes of a launcher without a GPU.

MMEngine 0.10.7's launchers call torch.cuda.set_device() and so need one, but leave a process group
alone that is there already. Its wrapper needs telling too: `model_wrapper_cfg` in CPU_WRAPPER.
"""
import os

import torch.distributed as dist

CPU_WRAPPER = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                   find_unused_parameters=False)

if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not dist.is_initialized():
    dist.init_process_group('gloo')
