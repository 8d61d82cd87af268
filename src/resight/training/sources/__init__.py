"""Data sets that descriptors are trained on, each read into `resight.training.data.Examples`."""
