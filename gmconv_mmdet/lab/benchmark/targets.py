"""What the project asks of its networks, as ratios to the plain network in the same run."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

# (work, variant) -> lowest and highest ratio of times, on a CPU and on a GPU. For the ResNet-50
# backbone with images of 2 x 3 x 512 x 512 or more.
TIMES = {
    ('step', 'S-GM'): ((0., 1.03), (0., 1.03)),
    ('step', 'GM'): ((0., 1.06), (0., 1.05)),
    ('inference', 'S-GM folded'): ((0.98, 1.02), (0.98, 1.02)),
    ('inference', 'GM'): ((0., 1.05), (0., 1.05)),
    ('inference', 'GM folded'): ((0., 1.05), (0., 1.05)),
}
MEMORY = 1.03  # peak of a training step: autograd keeps the masked weights
MEMORY_VARIANTS = ('S-GM', 'GM')
IMPORT_SECONDS = 0.3  # of gmconv_mmdet after mmdet
_LEAST_PIXELS = 2 * 512 * 512


class Verdict(NamedTuple):
    """A measured value beside its target."""
    what: str
    value: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        return self.low <= round(self.value, 3) <= self.high

    def text(self) -> str:
        wanted = f'<= {self.high:g}' if self.low <= 0 else f'{self.low:g} to {self.high:g}'
        return f'{self.what}: {self.value:.3f}, target {wanted}: {"met" if self.met else "MISSED"}'


def verdicts(results: dict[str, Any]) -> Iterator[Verdict]:
    """The targets that a file of results says something about."""
    for run in results['runs']:
        if run['network'] != 'backbone' or (
                run['batch'] * run['size'][0] * run['size'][1] < _LEAST_PIXELS):
            continue
        where = run['device'].split(':')[0].upper()
        what = f'{run["work"]}, {run["precision"]}, {where}'
        for row in run['rows']:
            target = TIMES.get((run['work'], row['name']))
            if target is not None:
                yield Verdict(f'time of {row["name"]}, {what}', row['ratio'],
                              *target[where != 'CPU'])
        peaks = run.get('peak_bytes', {})
        for name in MEMORY_VARIANTS:
            if name in peaks:
                yield Verdict(f'peak memory of {name}, {what}', peaks[name] / peaks['plain'], 0.,
                              MEMORY)
    if 'import_seconds' in results:
        yield Verdict('import gmconv_mmdet after mmdet (s)', results['import_seconds'], 0.,
                      IMPORT_SECONDS)
