"""What a table or a comparison still costs."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from .preflight import COCO_2017_IMAGES
from .run_config import REHEARSAL_EPOCHS, REHEARSAL_TRAIN_IMAGES
from .run_folder import RunFolder

_EPOCHS = 12  # schedule 1x


def plan_text(runs: Sequence[RunFolder], epochs: Mapping | None = None) -> str:
    """A line a run with its state and what is left of it, and the sum.

    Args:
        runs (Sequence[RunFolder]): of a table, or of a comparison.
        epochs (Mapping, optional): of a comparison, epochs by variant. The unit of cost is the
            epoch then; for a table it is one training image seen once: images x epochs. What that
            takes depends on the machine; MMEngine prints it within the first minute.
    """
    rehearsal = runs[0].rehearsal
    of_table = REHEARSAL_EPOCHS if rehearsal else _EPOCHS
    images = REHEARSAL_TRAIN_IMAGES if rehearsal else COCO_2017_IMAGES['train']
    unit = 'images x epochs' if epochs is None else 'epochs'
    width = max(8, *(len(run.row.name) for run in runs))
    states, left = [], 0
    lines = [f'{"row" if epochs is None else "variant":{width}}  seed  {"state":11}  epochs  '
             f'{unit} left']
    for run in runs:
        whole = of_table if epochs is None else epochs[run.row]
        state = run.state()
        done = whole if state == 'done' else run.newest_checkpoint()[0]
        cost = (whole - done) * (images if epochs is None else 1)
        states.append(state)
        left += cost
        lines.append(f'{run.row.name:{width}}  {run.seed:4}  {state:11}  {done:3}/{whole:<2}  '
                     f'{cost:{len(unit) - 1},}')
    counts = ', '.join(f'{states.count(state)} {state}'
                       for state in ('done', 'in progress', 'missing'))
    end = f' ({images:,} images, {of_table} epochs a run)' if epochs is None else ''
    return '\n'.join([
        *(['REHEARSAL: no run of this list is a result.'] if rehearsal else []), *lines,
        f'{counts}; {left:,} {unit} left{end}'])
