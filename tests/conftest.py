"""Settings of all tests."""

import torch

# Networks of a dozen units: more threads only wait for each other.
torch.set_num_threads(1)
