"""``hubert-units``: a prepared set with sounds, once more, with the unit of each frame (paper §4.2, sound).

The centres are fitted once, by k-means over MFCC of a sample of train, before anything is labelled; they lie in the
new set's ``assets`` and label other sets by ``--centres``. A clip's units are as many as the frames that the
convolution makes of what the model hears of it, its first 20 seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.data.format import ASSETS, Manifest
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.files import write_whole
from skillnet_cli.prepare.preparer import Items, Kept, Preparation, Preparer, Range, Rejected, Summary
from skillnet_sound.config import SoundConfig
from skillnet_sound.reader import SoundReader
from skillnet_sound.units import (
    CLIPS_AT_ONCE,
    CLUSTERS,
    FEATURES,
    SAMPLED_FRAMES,
    MfccFeatures,
    fit_centres,
    label,
    load_centres,
    one_thread,
    pack_centres,
)

AT_ONCE = 256
"""Items a range: sixteen batches."""

CENTRES = "centres.safetensors"
FITTED = "fitted.json"
MADE_OF = "made-of.json"
CARRIED = "asset-"
TRAIN = "train"


class HubertUnits(Preparer):
    """A range is a run of items of one split."""

    @classmethod
    def configure(cls, job: Preparation) -> Preparation:
        """Under the licence of the set that it is made of."""
        given = Path(job.sources[0]) if job.sources else None
        if given and given.is_dir():
            licence = Manifest.read(given).licence
        elif (job.folder / MADE_OF).exists():
            licence = _manifest(job.folder).licence
        else:
            return job
        return replace(job, dataset=replace(job.dataset, licence=licence))

    @cached_property
    def source(self) -> PreparedSet:
        """The set that is labelled. Raises UserError where there is none, several, or one without sounds."""
        if len(self.job.paths) != 1:
            raise UserError("hubert-units is made from one prepared set: give --source once")
        found = PreparedSet.open(self.job.paths[0])
        if not found.manifest.fields.get("sound", "").startswith("bytes"):
            raise UserError(f"{found.path}: its items have no sound: use a set made by speech-corpus, for example")
        return found

    def setup(self) -> None:
        """Fit the centres, or take those of ``--centres``; keep what :meth:`finish` needs of the source."""
        given, clusters = self.job.options.get("centres"), self.job.options.get("clusters")
        if given:
            found = len(load_centres(given))
            if clusters not in (None, found):
                raise UserError(f"--clusters {clusters}: {given} has {found} centres")
            content, fitted = given.read_bytes(), None
        else:
            with one_thread():
                content, fitted = self._fit(clusters or CLUSTERS)
        write_whole(self.folder / CENTRES, content)
        write_whole(self.folder / FITTED, json.dumps(fitted).encode())
        for name in self.source.manifest.assets:
            write_whole(self.folder / f"{CARRIED}{name}", (self.source.path / ASSETS / name).read_bytes())
        write_whole(self.folder / MADE_OF, self.source.manifest.encode())

    def _fit(self, clusters: int) -> tuple[bytes, dict[str, Any]]:
        """Centres of the frames of clips of train, taken at random until there are enough frames."""
        if TRAIN not in self.source.manifest.splits:
            raise UserError(f"{self.source.path}: it has no split '{TRAIN}' to fit centres on: give --centres")
        split, mfcc = self.source.split(TRAIN), MfccFeatures()
        places = np.random.default_rng(self.job.seed).permutation(len(split)).tolist()
        sampled: list[Tensor] = []
        frames = clips = 0
        remaining = (clip for place in places if (clip := self._heard(split[place])) is not None)
        while frames < SAMPLED_FRAMES and (batch := list(islice(remaining, CLIPS_AT_ONCE))):
            sampled += mfcc(batch)
            clips, frames = clips + len(batch), sum(map(len, sampled))
        centres = fit_centres(torch.cat(sampled or [torch.zeros(0, 39)]), self.job.seed, clusters)
        facts = {"split": TRAIN, "clips": clips, "frames": min(frames, SAMPLED_FRAMES), "seed": self.job.seed}
        return pack_centres(centres, facts), facts

    def _heard(self, sample: dict[str, Any]) -> Tensor | None:
        try:
            return torch.from_numpy(self._reader.decode(sample["sound"]))
        except (DamagedItem, KeyError):
            return None

    @cached_property
    def _reader(self) -> SoundReader:
        return SoundReader(SoundConfig())

    def bytes_needed(self) -> int:
        """Those of the source: its samples are kept."""
        splits = self.source.manifest.splits.values()
        return sum(shard.bytes for facts in splits for shard in facts.shards)

    def ranges(self) -> Sequence[Range]:
        """The splits one after another; the source's manifest is part of what they are made from."""
        version = hashlib.sha256(self.source.manifest.encode()).hexdigest()
        return [
            Range(f"{name} from {start}", [name, start, version], (name,))
            for name, facts in self.source.manifest.splits.items()
            for start in range(0, facts.items, AT_ONCE)
        ]

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """Every item with its units; one that cannot be decoded is damaged."""
        name, start, _ = range.payload
        samples = self.source.split(name)[start : start + AT_ONCE]
        heard: dict[str, Tensor] = {}
        damaged: dict[str, str] = {}
        for sample in samples:
            try:
                heard[sample["id"]] = torch.from_numpy(self._reader.decode(_sound(sample)))
            except DamagedItem as error:
                damaged[sample["id"]] = str(error)
        with one_thread():
            units = dict(zip(heard, label(list(heard.values()), MfccFeatures(), self._centres), strict=True))
        for sample in samples:
            id = sample["id"]
            yield self._kept(name, sample, units[id]) if id in units else Rejected(name, id, "damaged", damaged[id])

    @cached_property
    def _centres(self) -> Tensor:
        return load_centres(self.folder / CENTRES)

    def _kept(self, split: str, sample: dict[str, Any], units: list[int]) -> Kept:
        kinds = self.source.manifest.fields
        media = {name: (value, kinds[name].split()[1]) for name, value in sample.items() if isinstance(value, bytes)}
        fields = {name: value for name, value in sample.items() if name not in media and name != "id"}
        return Kept(split, sample["id"], {**fields, "units": units}, media)

    def finish(self, items: Items, protocol: str | None) -> Summary:
        """The units, and what their centres are: the file, its checksum, what it was fitted on."""
        manifest, content = _manifest(self.folder), (self.folder / CENTRES).read_bytes()
        fitted = json.loads((self.folder / FITTED).read_bytes())
        units = [str(unit) for unit in range(len(self._centres))]
        choices = {
            "features": FEATURES,
            "clusters": len(units),
            "centres sha256": hashlib.sha256(content).hexdigest(),
            "fitted on": fitted or self.job.recorded_options.get("centres"),
            "made of": {"name": manifest.name, "version": manifest.version, "choices": manifest.choices},
        }
        carried = {name: (self.folder / f"{CARRIED}{name}").read_bytes() for name in manifest.assets}
        return Summary({**manifest.targets, "units": units}, choices, {**carried, CENTRES: content})


def _manifest(folder: Path) -> Manifest:
    """The source's manifest, as the beginning kept it."""
    return Manifest.model_validate_json((folder / MADE_OF).read_bytes())


def _sound(sample: dict[str, Any]) -> bytes:
    content = sample.get("sound")
    if not isinstance(content, bytes):
        raise DamagedItem("it has no sound")
    return content
