"""``python -m skillnet_cli`` is ``skillnet``."""

from __future__ import annotations

from skillnet_cli.cli import main

if __name__ == "__main__":
    main()
