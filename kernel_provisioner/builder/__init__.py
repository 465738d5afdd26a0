"""The builder: turns an order into a published overlay, in a process of its own.

A cell waits for that process, so what it imports counts. Values that it is made of, here and on the
floors below, are ``NamedTuple``: ``dataclasses`` brings ``inspect`` along, and makes each class in
eight times the time, which together took longer than the whole interpreter takes to start.
"""
