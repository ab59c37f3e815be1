"""The verbs of the workstation around a bundle: evaluate, export, show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetl.cli import print_json
from edgetl.cli.console import print_table, show_progress
