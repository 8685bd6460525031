"""What would break a training of any mmdet config, found before its first iteration.

``command`` is what ``tools/doctor.py CONFIG`` runs: ``registered_names``, ``datasets`` (with
``annotation_file``, ``boxes``, ``classes`` and ``image_files``), ``start_weights``,
``from_scratch``, ``trial`` (one training step, one evaluated image) and ``trained`` (a checkpoint).
Checks return problems, one sentence or two each: what, where, the way out.
"""
