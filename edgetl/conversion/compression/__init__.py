"""Makes a backbone smaller: structured pruning by channel groups, sparsity, and weight clustering."""

from __future__ import annotations

from edgetl.conversion.compression.channel_groups import ChannelGroup, find_groups
from edgetl.conversion.compression.sparsity import SparsityOptions, cluster, sparsify, zero_share
from edgetl.conversion.compression.structured_pruning import PruningOptions, prune

__all__ = [
    "ChannelGroup",
    "PruningOptions",
    "SparsityOptions",
    "cluster",
    "find_groups",
    "prune",
    "sparsify",
    "zero_share",
]
