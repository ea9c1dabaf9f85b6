"""On-policy self-distillation for long chain-of-thought models, with the purified PMI target."""

__version__ = "0.1.0"
