"""Lightning callbacks: when an evaluation runs, on which images, and where its result goes.

Import this package as ``lightning_adv.callbacks``.
"""

from lightning_adv.callbacks.attack_evaluation import AttackEvaluation
from lightning_adv.callbacks.backdoor_evaluation import BackdoorEvaluation
from lightning_adv.callbacks.backdoor_inspection import BackdoorInspection
from lightning_adv.callbacks.backdoor_mitigation import BackdoorMitigation
from lightning_adv.callbacks.bars import Bars
from lightning_adv.callbacks.calibration_evaluation import CalibrationEvaluation
from lightning_adv.callbacks.detection_evaluation import DetectionEvaluation
from lightning_adv.callbacks.epoch_line import EpochLine
from lightning_adv.callbacks.evaluation import EpochEndEvaluation
from lightning_adv.callbacks.first_statistics import FirstStatistics
from lightning_adv.callbacks.fooling_images import FoolingImages
from lightning_adv.callbacks.generated_images import GeneratedImages
from lightning_adv.callbacks.last_checkpoint import LastCheckpoint
from lightning_adv.callbacks.overfitting_guard import CatastrophicOverfittingGuard
from lightning_adv.callbacks.physical_evaluation import PhysicalEvaluation
from lightning_adv.callbacks.poison_scan import PoisonScan
from lightning_adv.callbacks.purification_evaluation import PurificationEvaluation
from lightning_adv.callbacks.report import Report
from lightning_adv.callbacks.result_lines import ResultLines
from lightning_adv.callbacks.run_record import RunRecord
from lightning_adv.callbacks.stop_on_signal import StopOnSignal
from lightning_adv.callbacks.time_budget import TimeBudget
from lightning_adv.callbacks.transfer_evaluation import TransferEvaluation
from lightning_adv.callbacks.weight_averages import EMA, SWA

__all__ = [
    "EMA",
    "SWA",
    "AttackEvaluation",
    "BackdoorEvaluation",
    "BackdoorInspection",
    "BackdoorMitigation",
    "Bars",
    "CalibrationEvaluation",
    "CatastrophicOverfittingGuard",
    "DetectionEvaluation",
    "EpochEndEvaluation",
    "EpochLine",
    "FirstStatistics",
    "FoolingImages",
    "GeneratedImages",
    "LastCheckpoint",
    "PhysicalEvaluation",
    "PoisonScan",
    "PurificationEvaluation",
    "Report",
    "ResultLines",
    "RunRecord",
    "StopOnSignal",
    "TimeBudget",
    "TransferEvaluation",
]
