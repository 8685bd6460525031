"""Whether a graph of the network is being made."""
from __future__ import annotations

import torch

try:
    from torch.compiler import is_compiling  # torch 2.3
except ImportError:
    try:
        from torch._dynamo.external_utils import is_compiling  # torch 2.0
    except ImportError:
        def is_compiling() -> bool:
            return False


def is_recorded() -> bool:
    """Whether a compiler, an exporter or the tracer makes a graph, which has to hold for every batch
    size and can't look at values."""
    return is_compiling() or torch.jit.is_tracing()
