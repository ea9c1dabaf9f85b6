"""The fixtures of policy: what samples is a policy."""

from ..policy.conftest import FAMILIES, build, family, qwen, student, with_adapter

__all__ = ["FAMILIES", "build", "family", "qwen", "student", "with_adapter"]
