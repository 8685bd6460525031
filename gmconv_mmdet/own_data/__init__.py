"""From a COCO-format data set to a config that trains on it, see docs/own_data.md."""
