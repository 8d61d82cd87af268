"""Training of guided similarity separation (Liu et al., NeurIPS 2019)."""

from resight.training.separation.fit import TrainedSeparation, fit_separation, train_separation
from resight.training.separation.settings import SeparationSettings

__all__ = ["SeparationSettings", "TrainedSeparation", "fit_separation", "train_separation"]
