"""Published plugins by what they bring, read only to tell a user what to install."""

from __future__ import annotations

_BRINGS = {
    "skillnet-text": {"skill": ["text"], "task": ["tc", "mlm"], "translator": ["marian", "transmart"]},
    "skillnet-sound": {"skill": ["sound"], "task": ["asr", "units"], "metric": ["cer"]},
    "skillnet-image": {"skill": ["image"], "task": ["t2i", "image-text"]},
    "skillnet-video": {"skill": ["video"], "task": ["t2v", "video-text"]},
    "skillnet-code": {"skill": ["code"], "task": ["t2c", "code-mlm"]},
}

KNOWN_PLUGINS = {
    (kind, name): distribution
    for distribution, brings in _BRINGS.items()
    for kind, names in brings.items()
    for name in names
}
"""(kind, name) -> distribution, where kind is ``skill``, ``task``, ``metric`` or ``translator``."""
