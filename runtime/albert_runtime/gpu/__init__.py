"""ALBERT over packed tokens on an NVIDIA GPU: kernels in Triton's language, memory and streams of PyTorch.

Nothing here is imported unless the backend ``gpu`` is asked for, or tried by ``auto`` where there is a GPU.
"""
