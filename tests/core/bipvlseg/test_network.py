"""The whole network: what reaches what, and what is saved."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_medvlseg.core.backbones.bert import BertShape
from napari_medvlseg.core.backbones.text_encoders import TextSpec, WordPieces
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.models.bipvlseg.config import VISION_MODELS, BiPVLConfig
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.models.bipvlseg.windows import BiPVLWindows
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.sampling import DrawNoise, Place
from napari_medvlseg.core.training.bipvlseg.config import (
    PRESETS_3D,
    AlignmentSettings,
)
from napari_medvlseg.core.training.bipvlseg.losses import (
    alignment_loss,
    class_embedding_loss,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = TextSpec(
    hub_id="nobody/tiny",
    shape=BertShape(
        dim=12, layers=4, heads=2, hidden_dim=16, vocabulary=9, positions=8
    ),
    stages=(1, 1, 1, 1),
    lower_case=True,
    pooling="first",
)
CONFIG = BiPVLConfig(
    classes=2,
    vision="unet",
    widths=(4, 4, 8, 8, 8),
    patch=(32, 16, 16),
    heads=2,
    key_side=2,
    class_grid=(1, 1, 1),
    embedding_dim=6,
)
SWIN = replace(CONFIG, vision="swin-unetr", widths=(12,), patch=(64, 32, 32))


def _network(config: BiPVLConfig) -> BiPVLSeg:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = BiPVLSeg(config, SPEC)
        for fusion in network.fusion.values():  # as if it had been trained a little
            back = getattr(fusion, "from_vision", None)
            if back is not None:
                torch.nn.init.normal_(back.weight, std=0.1)
    return network


def _texts() -> WordPieces:
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    return WordPieces(ids, ids != 0)


def _image(config: BiPVLConfig, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, config.channels, *config.patch, generator=generator)


def _normal(seed: int) -> Callable[[tuple[int, ...]], torch.Tensor]:
    return partial(torch.randn, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", [CONFIG, SWIN], ids=["unet", "swin"])
def test_every_part_is_registered_and_learns_from_the_losses(
    config: BiPVLConfig,
) -> None:
    """The released code's fusions are in a plain list: never trained, never saved."""
    network = _network(config)
    out = network(_image(config), network.describe(_texts()), zero_noise)
    assert out.logits.shape == (2, 3, *config.patch)
    ids = torch.tensor([[2, 5, 3], [2, 6, 3], [2, 7, 3]])
    present = torch.tensor([[True, True], [True, False]])
    concepts = network.encode_concepts(WordPieces(ids, ids != 0), present)
    assert concepts.shape == (2, 2, 12)
    assert concepts[1, 1].abs().max().item() == 0
    seen, said = network.alignment(out.class_maps, concepts)
    loss = (
        out.logits.square().mean()
        + class_embedding_loss(out.class_maps, out.logits)
        + alignment_loss(seen, said, present, AlignmentSettings(), _normal(0))
    )
    loss.backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == set()
    unused = {
        name
        for name, p in network.named_parameters()
        if float(p.grad.abs().max()) == 0  # type: ignore[union-attr]
    }
    allowed = ("key_value.bias", "relative_position", "conv.bias", "position_emb")
    assert [n for n in unused if "fusion" in n and not n.endswith(allowed)] == []
    state = network.state_dict()
    for stage in (1, 2, 3, 4):
        assert f"fusion.{stage}.vision_from_text.to_query.weight" in state
    other = BiPVLSeg(config, SPEC)
    other.load_state_dict(state)
    again = other(_image(config), other.describe(_texts()), zero_noise)
    torch.testing.assert_close(again.logits, out.logits)


def test_text_reaches_the_logits_through_each_stage_alone() -> None:
    for stage in (1, 2, 3, 4):
        network = _network(replace(CONFIG, fused_stages=(stage,))).eval()
        texts = network.describe(_texts())
        other = texts._replace(hidden=texts.hidden.roll(1, dims=2))
        one = network(_image(CONFIG), texts, zero_noise).logits
        two = network(_image(CONFIG), other, zero_noise).logits
        assert (one - two).abs().max().item() > 1e-5, stage


BACKBONES: dict[str, dict[str, Any]] = {
    "swin-unetr": {"widths": (12,), "patch": (64, 32, 32)},
    "swin-unetr-v2": {"widths": (12,), "patch": (64, 32, 32)},
    "unet": {"widths": (4, 4, 8, 8, 8), "patch": (32, 16, 16)},
    "unetr": {"widths": (4, 24), "patch": (32, 32, 16)},
    "unet++": {"widths": (4, 4, 8, 8, 8, 4), "patch": (32, 16, 16)},
}


@pytest.mark.parametrize("vision", VISION_MODELS)
def test_the_vision_models_of_table_5_are_settings(vision: str) -> None:
    """With text and fusions at all four stages, the paper's or the prenorm form."""
    settings = replace(
        PRESETS_3D["bipvlseg"],
        vision=vision,
        **BACKBONES[vision],
        heads=2,
        key_side=2,
        fusion_form="paper",
    )
    config = settings.network(2, 1)
    network = _network(config).eval()
    assert set(network.fusion) == {"1", "2", "3", "4"}
    texts = network.describe(_texts())
    image = _image(config, 1)
    with torch.inference_mode():
        logits = network(image, texts, zero_noise).logits
        other = texts._replace(hidden=texts.hidden.roll(1, dims=2))
        told_otherwise = network(image, other, zero_noise).logits
    assert logits.shape == (1, 3, *config.patch)
    assert bool(logits.isfinite().all())
    assert (logits - told_otherwise).abs().max().item() > 1e-6


@pytest.mark.parametrize("text", ["clinicalbert", "biobert", "pubmedbert", "minilm"])
def test_the_text_encoders_of_table_5_are_settings(text: str) -> None:
    """Their sizes are the published ones; nothing is allocated."""
    small = {"vision": "unet", **BACKBONES["unet"]}
    config = replace(PRESETS_3D["bipvlseg"], text=text, **small).network(15, 1)
    with torch.device("meta"):
        network = BiPVLSeg(config)
    assert network.text is not None
    dim = 384 if text == "minilm" else 768
    assert network.alignment.to_text.in_features == dim


def test_the_order_of_the_classes_texts_changes_nothing() -> None:
    """As in the paper: voxels attend to a set, and channels are bound to no text."""
    network = _network(CONFIG).eval()
    texts = network.describe(_texts())
    other = texts._replace(hidden=texts.hidden.flip(0), mask=texts.mask.flip(0))
    one = network(_image(CONFIG), texts, zero_noise).logits
    two = network(_image(CONFIG), other, zero_noise).logits
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_an_images_answer_does_not_depend_on_its_batch() -> None:
    network = _network(CONFIG).eval()
    texts = network.describe(_texts())
    images = _image(CONFIG)
    together = network(images, texts, zero_noise).logits
    alone = network(images[1:], texts, zero_noise).logits
    torch.testing.assert_close(together[1:], alone)


def test_the_image_changes_the_text_on_its_way() -> None:
    """From the second stage on the text is each image's own."""
    network = _network(CONFIG).eval()
    seen: list[torch.Tensor] = []
    network.fusion["2"].register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    network(_image(CONFIG), network.describe(_texts()), zero_noise)
    (text,) = seen
    assert text.shape == (2, 2, 12)
    assert (text[0] - text[1]).abs().max().item() > 1e-5


def test_draws_differ_only_where_attention_is_probabilistic() -> None:
    for probabilistic in (True, False):
        network = _network(replace(CONFIG, probabilistic=probabilistic)).eval()
        texts = network.describe(_texts())
        one, two, again = (
            network(_image(CONFIG), texts, _normal(seed)).logits for seed in (1, 2, 1)
        )
        assert torch.equal(one, again)
        assert torch.equal(one, two) is not probabilistic


@pytest.mark.parametrize("vision", ["unet", "swin-unetr"])
def test_draws_of_what_was_looked_at_once_are_whole_passes(vision: str) -> None:
    """Several at a time as each alone, and in half precision nearly."""
    config = CONFIG if vision == "unet" else SWIN
    config = replace(config, probabilistic=True, noise_form="shared")
    network = _network(config).eval()
    windows, pieces = BiPVLWindows(network, None), _texts()
    image = _image(config)[:1]
    with torch.inference_mode():
        texts = network.describe(pieces)
        seen = windows.look(image, texts)
        found = windows.draw(seen, 3, DrawNoise(0, range(3), Place()))
        for draw in range(3):
            noise = DrawNoise(0, [draw], Place())
            alone = network(image, texts, noise).logits[0]
            torch.testing.assert_close(found[draw], alone, atol=1e-4, rtol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            seen = windows.look(image, texts)
            light = windows.draw(seen, 3, DrawNoise(0, range(3), Place()))
    assert light.dtype == torch.bfloat16
    off = light.float().softmax(dim=1) - found.softmax(dim=1)
    assert 0 < float(off.abs().max()) < 0.05


def test_the_text_free_twin_is_the_vision_model_alone() -> None:
    twin = BiPVLSeg(replace(CONFIG, text="none"))
    names = {name.partition(".")[0] for name, _ in twin.named_parameters()}
    assert names == {"vision", "class_embed"}
    assert twin(_image(CONFIG), None, zero_noise).logits.shape[1] == 3
    with pytest.raises(ValueError, match="text-free twin"):
        twin.describe(_texts())


def test_overlapping_classes_need_no_background() -> None:
    network = _network(replace(CONFIG, overlapping=True))
    out = network(_image(CONFIG), network.describe(_texts()), zero_noise)
    assert out.logits.shape[1] == 2
    seen, _ = network.alignment(out.class_maps, torch.zeros(2, 1, 12))
    assert seen.shape == (2, 2, 6)


def test_an_image_of_odd_sides_is_refused() -> None:
    network = _network(CONFIG)
    with pytest.raises(
        ImageError, match=r"multiples of \(16, 16, 16\), got \(16, 16, 9"
    ):
        network(torch.zeros(1, 1, 16, 16, 9), network.describe(_texts()), zero_noise)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vision": "resnet"},
        {"fusion_form": "none"},
        {"self_attention": "all"},
        {"noise_form": "loud"},
        {"classes": 0},
        {"fused_stages": (0,)},
    ],
)
def test_a_configuration_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BiPVLConfig(**{"classes": 2, **wrong})


def test_a_configuration_goes_to_json_and_back() -> None:
    import json

    told = json.loads(json.dumps(SWIN.to_dict()))
    assert BiPVLConfig.from_dict(told) == SWIN
    with pytest.raises(ValueError, match="got depth"):
        BiPVLConfig.from_dict({**told, "depth": 3})
