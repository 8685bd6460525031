"""Data sets for mmpretrain. A config names the module that it needs in ``custom_imports``;
importing ``gmconv_mmdet`` alone does not need mmpretrain.
"""
