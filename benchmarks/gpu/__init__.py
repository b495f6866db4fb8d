"""Speed of training, attacks and scoring on an accelerator, and whether its scores equal the CPU's.

    python -m benchmarks.gpu [--device cuda] [--out gpu.json] [--budget 240] [--compile] [--quick]

Prints tables, and with ``--out`` writes the figures as JSON and a page with the same name that ends in ``.html``. Both
are written again after each measurement, so an interrupted run leaves what it has measured. Measurements come in the
order of their importance; those for which ``--budget`` leaves no time are skipped, and named.

* rate of a large matrix product: float32 without TF32, TF32, bfloat16;
* scoring: the paper's search (214 cells, ``robust_released``, 36 channels, 20 layers) and others: the first candidate,
  and seconds for each of the others (:mod:`benchmarks.gpu.scoring`);
* training: the steps of an epoch as ``nas.train`` runs it, by preset, size, batch and precision
  (:mod:`benchmarks.gpu.training`);
* AutoAttack: seconds for 1,000 images (:mod:`benchmarks.gpu.attacks`);
* the device: how much of the time it works, in how many kernels, and on what (:mod:`benchmarks.gpu.kernels`);
* scores on the accelerator compared with those on the CPU.

All batches of a measurement have one shape, since a new shape makes cuDNN plan anew. What the first calls of a
measurement take beyond the later ones (planning, capture of graphs) is stated apart from the steady state. The images
are the embedded digits at 32x32; their content has no effect on the time. ``--device cpu --quick`` tries the whole
program on small networks; its figures mean nothing.
"""
