"""Trains a stage in a process of its own, as ``skillnet pretrain`` does, and leaves with the command's exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    from skillnet_cli.api import FailedJob, UserError
    from skillnet_cli.engine.launch import Processes, launch
    from skillnet_cli.engine.signals import Stopped
    from skillnet_cli.plugins import load_registry
    from skillnet_cli.recipe import Recipe

    given = json.loads(sys.argv[1])
    try:
        launch(
            Recipe.model_validate(given["recipe"]),
            given["stage"],
            load_registry(),
            Path(given["run"]),
            [Path(root) for root in given["roots"]],
            Processes(**given["processes"]),
        )
    except Stopped as stopped:
        print(f"skillnet: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except (UserError, FailedJob) as error:
        print(f"skillnet: error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
