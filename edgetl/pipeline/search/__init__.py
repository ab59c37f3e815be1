"""Searches for the best model for a board within a budget: many cheap trials first, then training of ever fewer."""

from __future__ import annotations

from edgetl.pipeline.budget import Budget
from edgetl.pipeline.search.options import SearchOptions
from edgetl.pipeline.search.searcher import SearchResult, search

__all__ = ["Budget", "SearchOptions", "SearchResult", "search"]
