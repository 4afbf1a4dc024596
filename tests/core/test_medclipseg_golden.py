"""MedCLIPSeg against numbers that the authors' network gave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch

from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig
from napari_medvlseg.core.models.medclipseg.keys import own_key
from napari_medvlseg.core.models.medclipseg_layout import VARIANTS
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from tests.golden_rule import (
    GoldenNoise,
    golden_folder,
    golden_image,
    golden_network,
    golden_weight,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = golden_folder()
TOLERANCE = 2e-5

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"no golden numbers at {FOLDER}; set MEDVLSEG_GOLDEN",
)


class Run(NamedTuple):
    """What was published of a variant, and what our network gives."""

    wanted: Mapping[str, Any]
    logits: torch.Tensor
    samples: torch.Tensor
    text: torch.Tensor
    patches: torch.Tensor
    adapter: Mapping[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def weights() -> Iterator[None]:
    yield
    golden_weight.cache_clear()  # more than a gigabyte


@pytest.fixture(scope="module", params=VARIANTS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    variant: str = request.param
    network = golden_network(MedCLIPSegConfig(variant=variant))
    with np.load(FOLDER / f"medclipseg_{variant}.npz") as stored:
        wanted = dict(stored)
    with torch.inference_mode():
        yield _run(network, wanted, skips_cls=not network.config.has_bert)


def _run(network: MedCLIPSeg, wanted: Mapping[str, Any], *, skips_cls: bool) -> Run:
    pixels, ids = golden_image(), torch.from_numpy(wanted["input_ids"])
    image, words = network.encode_normalised(pixels), network.encode_words(ids)
    adapter: dict[str, torch.Tensor] = {}

    def keep(_: object, given: tuple[Any, ...], found: tuple[Any, ...]) -> None:
        names = ("a0_vis_in", "a0_txt_in", "a0_vis_out", "a0_txt_out")
        for name, tokens in zip(names, (*given[:2], *found), strict=True):
            adapter[name] = tokens[:, :8]

    hook = network.pvl_adapters[0].register_forward_hook(keep)
    output = network.draw(image, words, network.word_mask(ids), zero_noise)
    hook.remove()
    first = int(skips_cls)
    return Run(
        wanted,
        _to_input(output.logits),
        torch.stack([network(pixels, ids, GoldenNoise(draw)) for draw in range(2)]),
        output.text_embedding,
        output.patch_tokens[:, first : first + 4],
        adapter,
    )


def _to_input(logits: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(logits, (224, 224), mode="bilinear")[:, 0]


def _assert_close(found: torch.Tensor, wanted: Any) -> None:
    torch.testing.assert_close(
        found, torch.from_numpy(wanted), atol=TOLERANCE, rtol=1e-5
    )


def test_the_logits_without_noise_are_the_published_ones(run: Run) -> None:
    _assert_close(run.logits, run.wanted["logits_zero_noise"])


def test_two_draws_are_the_published_ones(run: Run) -> None:
    _assert_close(run.samples, run.wanted["logits_samples"])


def test_mean_probability_and_its_entropy_are_the_published_ones(run: Run) -> None:
    mean = run.samples.sigmoid().mean(dim=0)
    _assert_close(mean, run.wanted["probability"])
    entropy = -(mean * (mean + 1e-8).log() + (1 - mean) * (1 - mean + 1e-8).log())
    _assert_close(entropy, run.wanted["predictive_entropy"])


def test_the_embeddings_are_the_published_ones(run: Run) -> None:
    _assert_close(run.text, run.wanted["text_embedding"])
    _assert_close(run.patches, run.wanted["patch_tokens_head"])


def test_the_first_adapter_gives_what_is_published(run: Run) -> None:
    for name, tokens in run.adapter.items():
        _assert_close(tokens, run.wanted[name])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_parameters_are_those_of_a_checkpoint(variant: str) -> None:
    listed = FOLDER / f"medclipseg_{variant}_state_dict.json"
    theirs = {
        own_key(key): (tuple(shape), dtype)
        for key, shape, dtype in json.loads(listed.read_text(encoding="utf-8"))
    }
    with torch.device("meta"):
        network = MedCLIPSeg(MedCLIPSegConfig(variant=variant))
    ours = {
        key: (tuple(value.shape), str(value.dtype))
        for key, value in network.state_dict().items()
    }
    assert ours == theirs
