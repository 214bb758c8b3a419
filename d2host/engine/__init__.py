"""What every training of the project shares, whatever it trains; each name is imported when it is first used.

* :func:`run_training`: from a command line to a trained or evaluated model
* :class:`Trainer`, :class:`TrainingOptions`: the loop with accumulation, autocast, clipping, checkpoints, evaluation,
  logs and exact resume
* :class:`RunCheckpointer`: atomic checkpoints of a whole run
* :class:`ResumableSampler`: which sample comes when
* :class:`OptimizerOptions`, :func:`build_optimizer`: AdamW groups; :func:`warmup_cosine`, :func:`warmup_multistep`:
  learning-rate schedules
* :class:`Precision`: mixed precision on CUDA and CPU
* :mod:`arguments <d2host.engine.arguments>`: kinds of command-line arguments
* :func:`run_command`, :func:`argument_parser`, :func:`launch`, :func:`setup_run`, :func:`resolve_device`: command line,
  processes, logs and device
* :mod:`config <d2host.engine.config>`, :mod:`config_file <d2host.engine.config_file>`: keys, their checks, their files
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["RunCheckpointer"],
        "command": ["argument_parser", "run_command"],
        "distributed": ["launch"],
        "optimizer": ["OptimizerOptions", "build_optimizer"],
        "options": ["TrainingOptions"],
        "precision": ["Precision"],
        "run": ["run_training"],
        "sampler": ["ResumableSampler"],
        "schedule": ["warmup_cosine", "warmup_multistep"],
        "setup": ["resolve_device", "setup_run"],
        "trainer": ["Trainer"],
    },
)
