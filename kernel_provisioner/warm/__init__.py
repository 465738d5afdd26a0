"""Warm starts: kernels forked from a process that has imported ipykernel and torch."""

from .fork_request import ForkRequest as ForkRequest
from .fork_request import WarmContext as WarmContext
from .fork_request import WarmUnavailable as WarmUnavailable
from .handle import ForkedKernel as ForkedKernel
from .pool import pool as pool
