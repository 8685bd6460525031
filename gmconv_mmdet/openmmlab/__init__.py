"""What the other OpenMMLab parts stand on: configs, start weights, MMEngine's checkpoint loader."""
