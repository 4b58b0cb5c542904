"""KFCPO, the course: the thin library its notebooks stand on."""

from kfcpo_lib.blending import blend, margin_weights
from kfcpo_lib.diagnosis import Diagnosis, diagnose
from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.records import EpochReport, Knobs, TrainConfig
from kfcpo_lib.training import train

__all__ = [
    "KFAC",
    "Diagnosis",
    "EpochReport",
    "Knobs",
    "TrainConfig",
    "blend",
    "diagnose",
    "make_vec_env",
    "margin_weights",
    "train",
]
