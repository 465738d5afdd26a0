"""Warm starts: kernels forked from a process that has imported ipykernel and torch."""

from .handle import ForkedKernel as ForkedKernel
from .order import Ground as Ground
from .order import NotWarm as NotWarm
from .order import Order as Order
from .pool import POOL as POOL
