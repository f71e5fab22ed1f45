"""What is wrong with a checkpoint that Lightning could not restore, in one line."""

__all__ = ["from_restoring"]

CONNECTOR = "pytorch_lightning.trainer.connectors.checkpoint_connector"
PARTS = {
    "resume_start": "the run",
    "restore_datamodule": "the data",
    "restore_model": "the model",
    "restore_precision_plugin_state": "the precision",
    "restore_callbacks": "the callbacks",
    "restore_loops": "the loops",
    "restore_optimizers": "the optimisers",
    "restore_optimizers_and_schedulers": "optimisers and schedulers",
    "restore_lr_schedulers": "the schedulers",
}
"""Lightning's functions that restore something, and what."""


def from_restoring(error: Exception) -> str | None:
    """The complaint, None if the error has nothing to do with restoring a checkpoint."""
    part, path, trace = None, None, error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") == CONNECTOR and frame.f_code.co_name in PARTS:
            part, path = PARTS[frame.f_code.co_name], frame.f_locals["self"].trainer.ckpt_path
        trace = trace.tb_next
    if part is None or isinstance(error, MemoryError):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2])[:200]
    return (
        f"{path} cannot be loaded: what it holds of {part} does not fit this run ({type(error).__name__}: {said}); "
        "give the model, data and callbacks that it was saved with, or take another checkpoint"
    )
