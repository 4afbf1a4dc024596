"""Train the cross-attentions of `compact` anew with other noise, and compare.

    python scripts/noise_forms.py DATA OUTPUT
    python scripts/noise_forms.py DATA OUTPUT --only shared token shared.1

Every setting (`noise_settings.py`) starts from the bundled weights with its six
probabilistic cross-attentions made anew, so that nothing in them is used to any noise.
The image encoder is frozen, and what it says of a fixed set of training pictures is
computed once: a step is fusion and decoder. All settings see the same batches. Each is
measured on validation pictures in and out of domain (BUSBRA), on the network's own
grid, without mirrored views.

OUTPUT gets ``NAME.SEED.json`` of each run; what is there is not made again. With
``--page`` the table replaces what stands between ``<!-- table: noise_forms -->`` and
``<!-- end -->`` in that page.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from noise_settings import (
    OF_PIXELS,
    OF_WORDS,
    SETTINGS,
    Batch,
    Deviations,
    Noise,
    Setting,
    Trainer,
    draw_logits,
    network,
)
from page_tables import markdown, put
from torch import Tensor, nn
from torch.nn import functional

from napari_medvlseg.core.backbones.minilm import MiniLM, find_minilm
from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.captions import caption_case
from napari_medvlseg.core.datasets import find_sets, splits_of
from napari_medvlseg.core.metrics import confusion
from napari_medvlseg.core.models.build import build_network
from napari_medvlseg.core.models.compact import Compact, Pyramid
from napari_medvlseg.core.preprocess.pixels import to_network_range
from napari_medvlseg.core.reliability import case_reliability, summarise_reliability
from napari_medvlseg.core.training.config import TrainConfig
from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.training.plans import Plans
from napari_medvlseg.core.training.samples import TILED, Sample, load_samples, render
from napari_medvlseg.core.uncertainty import (
    ClassStatistics,
    binary_entropy,
    mutual_information,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Figures = dict[str, float | None]

OUT_OF_DOMAIN = "BUSBRA"
FURTHER_QUESTIONS = 0.125
"""Share of the training pictures that are asked about twice."""
COLUMNS = {
    "dsc": "DSC",
    "brier": "Brier, union",
    "entropy": "entropy",
    "information": "mutual information",
    "share": "share of MI",
    "ranking": "ranking of pictures",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What all settings share."""

    size: int = 192
    """Pixels a side of the input."""
    pictures: int = 120
    """Training pictures of each set."""
    batch: int = 6
    steps: int = 200
    rate: float = 2e-3
    """Peak of the learning rate of what is made anew."""
    cases: int = 16
    """Validation cases of each set in domain."""
    outside: int = 80
    """The same out of domain."""
    samples: int = 12


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure what is missing, and print the table."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("data", type=Path, help="Folder of the labelled sets")
    parser.add_argument("output", type=Path, help="Gets one JSON a run")
    parser.add_argument(
        "--only", nargs="+", type=run_name, help="NAME or NAME.SEED [all, seed 0]"
    )
    parser.add_argument("--page", type=Path, help="Gets the table")
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args(arguments)
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    options.output.mkdir(parents=True, exist_ok=True)
    _run(options.data, options.output, recipe, options.only or [*_every_run()])
    lines = table(options.output)
    print("\n".join(lines))
    if options.page:
        page = options.page.read_text(encoding="utf-8")
        options.page.write_text(put(page, "noise_forms", lines), encoding="utf-8")


def run_name(text: str) -> tuple[str, int]:
    """Split NAME.SEED; without a seed it is 0.

    Raises
    ------
    argparse.ArgumentTypeError
        If there is no such setting, or the seed is not a number.
    """
    name, _, seed = (text, "", "0") if text in SETTINGS else text.rpartition(".")
    if name not in SETTINGS or not seed.isdecimal():
        msg = f"expected NAME or NAME.SEED, NAME one of {', '.join(SETTINGS)}; got "
        raise argparse.ArgumentTypeError(msg + repr(text))
    return name, int(seed)


def _every_run() -> Iterator[tuple[str, int]]:
    """Yield all settings, once."""
    for name in SETTINGS:
        yield name, 0


def _run(
    data: Path, output: Path, recipe: Recipe, runs: Sequence[tuple[str, int]]
) -> None:
    """Make the results that are not there; those that are must be of this recipe."""
    paths = {run: output / f"{run[0]}.{run[1]}.json" for run in runs}
    for path in paths.values():
        if path.exists() and _read(path)["recipe"] != asdict(recipe):
            msg = f"{path}: expected a result of {recipe}, got another recipe's; "
            raise SystemExit(msg + "choose another OUTPUT")
    missing = {run: path for run, path in paths.items() if not path.exists()}
    if not missing:
        return
    experiment = Experiment(data, recipe)
    for (name, seed), path in missing.items():
        told = experiment.run(SETTINGS[name], seed)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
        print(f"{name}.{seed}", told["in"], told["out"], told["seconds"], flush=True)


class Experiment:
    """Pictures and questions, prepared once.

    Parameters
    ----------
    data : Path
    recipe : Recipe
    """

    def __init__(self, data: Path, recipe: Recipe) -> None:
        self.recipe = recipe
        self.weights = build_network(model_card("compact")).state_dict()
        self.text = MiniLM(find_minilm())
        self.encoder = network("shared", self.weights)
        chosen: list[Sample] = []
        self.asked: dict[str, list[Batch]] = {}
        for root in find_sets(data):
            if root.name != OUT_OF_DOMAIN and "train" in splits_of(root):
                chosen += _spread(load_samples(root, "train"), recipe.pictures)
            count = recipe.outside if root.name == OUT_OF_DOMAIN else recipe.cases
            cases = _spread([*_windows(load_samples(root, "val"), recipe.size)], count)
            self.asked[root.name] = list(self._questions(cases))
        self.training = list(self._batches(chosen))

    def run(self, setting: Setting, seed: int) -> dict[str, Any]:
        """Train a setting and measure it; seconds are those of the processor."""
        start = time.process_time()
        model = network(setting.form, self.weights)
        if setting.trained:
            steps, rate = self.recipe.steps, self.recipe.rate
            trainer = Trainer(model, setting, seed=seed, steps=steps, rate=rate)
            trainer.train(self.training)
        trained = time.process_time()
        told = self._measure(model, setting)
        return {
            "setting": asdict(setting),
            "recipe": asdict(self.recipe),
            "seed": seed,
            **told,
            "seconds": [trained - start, time.process_time() - trained],
        }

    def _batches(self, samples: list[Sample]) -> Iterator[Batch]:
        """Plan every batch once, as training does, and encode its pictures."""
        recipe = self.recipe
        names = [sample.case.dataset for sample in samples]
        config = TrainConfig(
            batch_size=recipe.batch,
            sizes=(recipe.size,),
            weights={name: recipe.pictures / names.count(name) for name in names},
            epochs=1,
            normal_weight=1.0,
            healthy_pieces=0.0,
            borrowed_styles=0.0,
            further_questions=FURTHER_QUESTIONS,
        )
        plans = Plans(samples, config, range(recipe.batch))
        for step in range(len(plans)):
            plan = plans[step]
            seeds = range(step * recipe.batch, (step + 1) * recipe.batch)
            told = render(plan, SampleNoise.seeded(seeds))
            weight = 1 + (config.side_weight - 1) * plan.sided.float()
            pyramid = _encoded(self.encoder, told.images)
            words = self._words(plan.prompts)
            yield Batch(pyramid, plan.again, *words, told.masks, weight)

    def _questions(self, samples: list[Sample]) -> Iterator[Batch]:
        """Ask each validation case in the authors' words, or in a caption."""
        samples = [_fit(sample, self.recipe.size) for sample in samples]
        for first in range(0, len(samples), self.recipe.batch):
            part = samples[first : first + self.recipe.batch]
            images = torch.stack([to_network_range(sample.image) for sample in part])
            words = self._words([_prompt(sample) for sample in part])
            masks = torch.from_numpy(np.stack([s.mask for s in part]))[:, None]
            nothing, ones = torch.zeros(0, dtype=torch.long), torch.ones(len(part))
            yield Batch(_encoded(self.encoder, images), nothing, *words, masks, ones)

    def _words(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Return word vectors (B, L, 384) and where they are words (B, L)."""
        vectors = [self.text.encode(prompt) for prompt in prompts]
        hidden = nn.utils.rnn.pad_sequence(vectors, batch_first=True).clone()
        lengths = torch.tensor([len(each) for each in vectors])
        return hidden, torch.arange(hidden.shape[1]) < lengths[:, None]

    @torch.inference_mode()
    def _measure(self, model: Compact, setting: Setting) -> dict[str, Any]:
        """Return the figures of each set, their mean in domain, and out of domain."""
        deviations = Deviations(model)
        sets = {name: self._figures(model, setting, name) for name in self.asked}
        inside = [told for name, told in sets.items() if name != OUT_OF_DOMAIN]
        return {
            "in": _means(inside),
            "out": sets.get(OUT_OF_DOMAIN),
            "deviations": deviations.means(),
            "sets": sets,
        }

    def _figures(self, model: Compact, setting: Setting, name: str) -> Figures:
        """Return the figures of a set."""
        noise = Noise(setting, 0, setting.scale)
        count = 1 if setting.form == "none" else self.recipe.samples
        cases, dsc = [], []
        for batch in self.asked[name]:
            statistics = ClassStatistics(exclusive=False)
            for _ in range(count):
                statistics.add(draw_logits(model, batch, 1, noise)[:, :, 0])
            means = statistics.means().unflatten(0, (2, -1)).numpy()
            references = batch.masks[:, 0].numpy()
            for p, expected, reference in zip(*means, references, strict=True):
                entropy = binary_entropy(p)
                rest = mutual_information(entropy, expected)
                maps = (entropy, rest if count > 1 else np.zeros_like(rest))
                cases.append(case_reliability(p, maps, p > 0.5, reference))
                dsc.append(confusion(p > 0.5, reference).f1)
        told = summarise_reliability(cases, dsc)
        return {
            "dsc": sum(dsc) / len(dsc),
            "brier": told["brier"]["union"],
            "brier_image": told["brier"]["image"],
            "entropy": told["spearman"]["predictive_entropy"]["pixels"],
            "information": told["spearman"]["mutual_information"]["pixels"],
            "share": told["mutual_information_share"],
            "ranking": told["ranking"],
        }


@torch.no_grad()
def _encoded(encoder: Compact, images: Tensor) -> Pyramid:
    """Return what the frozen encoder says, in bfloat16."""
    levels = encoder.encode_image(images).levels
    light = [x.bfloat16().to(memory_format=torch.channels_last) for x in levels]
    return Pyramid(tuple(light))


def _prompt(sample: Sample) -> str:
    """Return the authors' prompt, or a caption."""
    told = sample.case.prompt
    return told or caption_case(sample.mask, sample.image, sample.case.info)


def _spread(samples: list[Sample], count: int) -> list[Sample]:
    """Return so many of them, evenly spaced, or all."""
    rows = np.linspace(0, len(samples) - 1, min(count, len(samples))).round()
    return [samples[int(row)] for row in rows]


def _windows(samples: list[Sample], size: int) -> Iterator[Sample]:
    """Cut four windows about the middle of pictures that are learnt by windows."""
    for sample in samples:
        if sample.case.dataset not in TILED:
            yield sample
            continue
        middle = [side // 2 for side in sample.mask.shape]
        for top in (max(0, middle[0] - size), middle[0]):
            for left in (max(0, middle[1] - size), middle[1]):
                cut = np.s_[top : top + size, left : left + size]
                image, mask = sample.image[cut].copy(), sample.mask[cut].copy()
                yield replace(sample, image=image, mask=mask)


def _fit(sample: Sample, size: int) -> Sample:
    """Resize picture and mask to the network's grid."""
    stacked = np.concatenate([sample.image, 255 * sample.mask[..., None]], axis=-1)
    pixels = torch.from_numpy(stacked).permute(2, 0, 1)[None].float()
    small = functional.interpolate(
        pixels, (size, size), mode="bilinear", antialias=True
    )[0].numpy()
    image = small[:3].round().astype(np.uint8).transpose(1, 2, 0)
    return replace(sample, image=np.ascontiguousarray(image), mask=small[3] > 127.5)


def table(folder: Path) -> list[str]:
    """Return the lines of the table: a row a setting, the mean over its seeds."""
    header = ["setting", "seeds", *COLUMNS.values(), "learnt deviation"]
    rows = []
    for name, setting in SETTINGS.items():
        told = [_read(path) for path in sorted(folder.glob(f"{name}.[0-9].json"))]
        if told:
            rows.append([setting.label, str(len(told)), *_cells(told)])
    return markdown(header, rows)


def _cells(told: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the figures in and out of domain, and the deviations of both contexts."""
    inside, outside = (_means([each[side] for each in told]) for side in ("in", "out"))
    for key in COLUMNS:
        pair = (inside[key], outside[key])
        yield " / ".join("-" if x is None else f"{x:.3f}" for x in pair)
    if told[0]["setting"]["form"] == "none":
        yield "-"
        return
    deviations = np.mean([each["deviations"] for each in told], axis=0)
    means = (deviations[list(places)].mean() for places in (OF_PIXELS, OF_WORDS))
    yield " / ".join(f"{mean:.2f}" for mean in means)


def _means(told: Sequence[Figures]) -> Figures:
    """Return the mean of each figure where it is defined."""
    known = {
        key: [x for each in told if (x := each[key]) is not None] for key in told[0]
    }
    return {key: sum(xs) / len(xs) if xs else None for key, xs in known.items()}


def _read(path: Path) -> Any:
    """Return a result."""
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
