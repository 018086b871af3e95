"""One operation a file: the kernel, and the function that launches it on tensors. Kernels know no model.

How many rows there are is read from GPU memory (``count``), so that a captured graph serves any number up to
what it was captured for, and programs past the last row end at once. Sizes of the model, strides and tiles
are constants of the compiled kernel; none depends on the batch, so neither do the bits of a row.
"""
