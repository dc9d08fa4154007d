import os

import torch
from built import once

from optdsl import load

# Before anything imports it: without a GPU, Triton's kernels run in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Whoever does not ask for kernels gets none: a test says which target it is about.
os.environ.setdefault("OPTDSL_FUSED", "0")
# The tensors of the tests are small: threads would only wait for each other.
torch.set_num_threads(1)
# What is loaded was mostly built before, to ask it for something else.
load.build = once
