"""What a table still costs."""
from __future__ import annotations

from collections.abc import Sequence

from .run_config import REHEARSAL_EPOCHS, REHEARSAL_TRAIN_IMAGES
from .preflight import COCO_2017_IMAGES
from .run_folder import RunFolder

_EPOCHS = 12  # schedule 1x


def plan_text(runs: Sequence[RunFolder]) -> str:
    """A line a run with its state and what is left of it, and the sum.

    The unit of cost is one training image seen once: images x epochs. What that takes depends on
    the machine; MMEngine prints it within the first minute.
    """
    rehearsal = runs[0].rehearsal
    epochs = REHEARSAL_EPOCHS if rehearsal else _EPOCHS
    images = REHEARSAL_TRAIN_IMAGES if rehearsal else COCO_2017_IMAGES['train']
    width = max(len(run.row.name) for run in runs)
    states, left = [], 0
    lines = [f'{"row":{width}}  seed  {"state":11}  epochs  images x epochs left']
    for run in runs:
        state = run.state()
        done = epochs if state == 'done' else run.newest_checkpoint()[0]
        cost = (epochs - done) * images
        states.append(state)
        left += cost
        lines.append(f'{run.row.name:{width}}  {run.seed:4}  {state:11}  {done:3}/{epochs:<2}  '
                     f'{cost:14,}')
    counts = ', '.join(f'{states.count(state)} {state}'
                       for state in ('done', 'in progress', 'missing'))
    return '\n'.join([
        *(['REHEARSAL: no run of this list is a result.'] if rehearsal else []), *lines,
        f'{counts}; {left:,} images x epochs left ({images:,} images, {epochs} epochs a run)'])
