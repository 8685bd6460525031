"""ONNX files of folded networks, checked against onnxruntime."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn as nn

from ..conversion.fold import fold_gmconv
from ..files import write_whole
from ..torch_version import require_torch

TOLERANCE = 1e-4  # relative to the largest value of an output


def export_onnx(network: nn.Module, path: str | Path, opset: int | None = None,
                names: Iterable[str] | None = None,
                metadata: Mapping[str, str] | None = None) -> int:
    """Write a network as ONNX file, batch, height and width dynamic.

    The network is folded first: a convolution whose mask is static has a plain weight in the file.
    A dynamic GMConv convolves by columns, the same sums in a form that serves every batch. Weights
    keep their names in the network, with a batch norm multiplied into them, too; before torch 2.6
    such have numbers instead.

    Args:
        network (nn.Module): takes images ``(N, 3, H, W)``; gives one tensor or several. A backbone,
            or any network that ``convert_gmconv`` gave.
        path (str | Path): of the file; replaced if it is there.
        opset (int, optional): version of ONNX's operators; by default the one that this torch
            writes.
        names (Iterable[str], optional): of the outputs.
        metadata (Mapping[str, str], optional): texts by name, as
            :func:`~gmconv_mmdet.deploy.onnx_metadata.image_metadata` gives them.

    Returns:
        int: the opset written.
    """
    network = fold_gmconv(network).eval()
    parameter = next(network.parameters())
    image = torch.randn(2, 3, 128, 160, device=parameter.device, dtype=parameter.dtype)
    names = None if names is None else list(names)
    with torch.no_grad():
        dynamic = _dynamic_dimension()
        if dynamic is None:  # before torch 2.6: by way of TorchScript
            torch.onnx.export(network, (image, ), str(path), opset_version=opset,
                              input_names=['image'], output_names=names,
                              dynamic_axes=_dynamic_axes(network, image, names))
        else:
            torch.onnx.export(
                network, (image, ), dynamo=True, verbose=False, opset_version=opset,
                input_names=['image'], output_names=names,
                dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic}, )).save(
                    str(path), external_data=False)
    import onnx
    written = onnx.load(str(path))
    onnx.helper.set_model_props(written, dict(metadata or {}))
    onnx.save(written, str(path))
    return next(entry.version for entry in written.opset_import if not entry.domain)


def _dynamic_dimension():
    return getattr(getattr(getattr(torch, 'export', None), 'Dim', None), 'DYNAMIC', None)


def _dynamic_axes(network: nn.Module, image: torch.Tensor, names: list[str] | None) -> dict:
    """Batch, height and width of the input and of the outputs that have them, by name."""
    outputs = network(image)
    outputs = (outputs, ) if isinstance(outputs, torch.Tensor) else outputs
    sizes = {'image': image, **dict(zip(names or (), outputs))}
    return {name: {axis: f'{name}_{axis}' for axis in (0, 2, 3) if axis < tensor.dim()}
            for name, tensor in sizes.items()}


def largest_difference(outputs: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> float:
    """Of any pair, relative to the largest value of the expected one."""
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item()
               for a, b in zip(outputs, expected))


def onnx_difference(path: str | Path, network: nn.Module,
                    shapes: Iterable[tuple[int, int, int]]) -> dict[tuple[int, int, int], float]:
    """Run an ONNX file with onnxruntime beside the fp32 network it was exported from, on random
    images: the largest difference of an output, relative to its largest value, for each of
    ``shapes``, ``(N, H, W)``."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well, as one exception
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    differences = {}
    for batch, height, width in shapes:
        image = torch.randn(batch, 3, height, width,
                            generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = network(image)
        expected = [expected] if isinstance(expected, torch.Tensor) else expected
        found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        differences[batch, height, width] = largest_difference(
            map(torch.from_numpy, found), expected)
    return differences


def write_checked(network: nn.Module, path: Path, size: tuple[int, int], opset: int | None = None,
                  names: Iterable[str] | None = None,
                  metadata: Mapping[str, str] | None = None) -> tuple[int, dict]:
    """Export, compare at two image sizes and two batch sizes, and only then put the file in place.

    Args:
        network, path, opset, names, metadata: see :func:`export_onnx`.
        size (tuple[int, int]): ``(H, W)`` of the larger images; the others have odd sides, about
            half as long.

    Returns:
        tuple: the opset, and the differences of :func:`onnx_difference`.

    Raises:
        ValueError: onnxruntime's results differ by more than 1e-4.
        NewerTorchNeeded: this torch wrote the size of one image into the file. Before 2.6 it does so
            for networks that resize to the size of another map, as an FPN.
    """
    height, width = size
    shapes = [(batch, *sides) for sides in (size, (height // 2 | 1, width // 2 | 1))
              for batch in (1, 3)]
    written, differences = 0, {}

    def write(draft: Path) -> None:
        nonlocal written, differences
        written = export_onnx(network, draft, opset, names, metadata)
        try:
            differences = onnx_difference(draft, network, shapes)
        except Exception:  # onnxruntime has classes of its own for it
            require_torch('an ONNX file of this network for every image size (a backbone alone may '
                          'do)', _dynamic_dimension() is not None, '2.6')
            raise
        worst = max(differences.values())
        if not worst <= TOLERANCE:
            raise ValueError(f'onnxruntime\'s results differ by {worst:.1e} of the largest value, '
                             f'more than {TOLERANCE:.0e}; nothing was written. Try another --opset')

    write_whole(path, write)
    return written, differences
