"""MedCLIPSeg's network: what every variant and both ways of reading have in common."""

from __future__ import annotations

import pytest
import torch

from napari_medvlseg.core.backbones.tower_shapes import VARIANTS
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.sampling import DrawNoise, Place
from tests.tiny_medclipseg import (
    GRID,
    SIDE,
    tiny_config,
    tiny_ids,
    tiny_image,
    tiny_network,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_noise_decides_a_draw(variant: str) -> None:
    network = tiny_network(variant)
    first, same, other = (
        network(tiny_image(), tiny_ids(), _generator(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (1, SIDE, SIDE)
    torch.testing.assert_close(first, same, rtol=0, atol=0)
    assert (first - other).abs().max() > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_image_and_prompt_decide_a_draw(variant: str) -> None:
    network = tiny_network(variant)
    logits = network(tiny_image(), tiny_ids(), zero_noise)
    other_image = network(tiny_image(2), tiny_ids(), zero_noise)
    other_words = network(tiny_image(), tiny_ids(30, 31), zero_noise)
    assert (logits - other_image).abs().max() > 1e-3
    assert (logits - other_words).abs().max() > 1e-3


def test_the_global_generator_is_left_alone() -> None:
    network = tiny_network()
    before = torch.random.get_rng_state()
    network(tiny_image(), tiny_ids(), _generator())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("variant", VARIANTS)
def test_draws_in_a_batch_are_those_drawn_alone(variant: str) -> None:
    network = tiny_network(variant)
    ids = tiny_ids()
    image, words = network.encode_normalised(tiny_image()), network.encode_words(ids)
    mask = network.word_mask(ids)
    together = network.draw(
        image.expand(3),
        words.expand(3, -1, -1),
        mask.expand(3, -1),
        DrawNoise(5, range(3), Place()),
    ).logits
    for draw in range(3):
        noise = DrawNoise(5, [draw], Place())
        alone = network.draw(image, words, mask, noise).logits[0]
        torch.testing.assert_close(together[draw], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_is_seen_only_where_the_authors_code_is_followed(variant: str) -> None:
    ids = tiny_ids()
    changes = {}
    for compatible in (True, False):
        network = tiny_network(variant, compatible=compatible)
        padded = network(tiny_image(), ids, zero_noise)
        cut = network(tiny_image(), ids[:, : int((ids != 0).sum())], zero_noise)
        changes[compatible] = float((padded - cut).abs().max())
    assert changes[True] > 1e-4
    assert changes[False] < 1e-5


def test_the_authors_channels_are_bgr_in_eight_bits() -> None:
    pixels = torch.zeros(1, 3, 2, 2)
    pixels[0, 0], pixels[0, 2] = 1.0, -0.5013  # all red, a quarter of blue
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    theirs = tiny_network(compatible=True).normalise(pixels)[0, :, 0, 0]
    grey = 128 / 255  # 127.5 is rounded to even
    torch.testing.assert_close(
        theirs, (torch.tensor([64 / 255, grey, 1.0]) - mean) / std
    )
    ours = tiny_network(compatible=False).normalise(pixels)[0, :, 0, 0]
    torch.testing.assert_close(ours, (torch.tensor([1.0, 0.5, 0.24935]) - mean) / std)


def test_as_the_paper_reads_means_and_projections_are_plain() -> None:
    names = dict(tiny_network(compatible=False).named_parameters())
    assert not [name for name in names if ".norm_k." in name or ".norm_v." in name]
    assert not [name for name in names if name.endswith(("q_proj.bias", "k_proj.bias"))]


def test_the_patches_of_openai_towers_are_values_in_the_authors_code() -> None:
    theirs, paper = tiny_network("clip"), tiny_network("clip", compatible=False)
    block = theirs.vision_model.transformer.resblocks[-1]
    image = theirs.encode_normalised(tiny_image()).tokens
    found = theirs.vision_model.values(image)
    width = image.shape[-1]
    _, _, value = (
        torch.nn.functional.linear(
            block.ln_1(image), block.attn.in_proj_weight, block.attn.in_proj_bias
        )
    ).split(width, dim=-1)
    expected = theirs.vision_model.ln_post(block.attn.out_proj(value))
    torch.testing.assert_close(found, expected @ theirs.vision_model.proj)
    for network, uses_mlp in ((theirs, False), (paper, True)):
        before = network(tiny_image(), tiny_ids(), zero_noise)
        network.vision_model.transformer.resblocks[-1].mlp.c_proj.weight.data *= 2
        after = network(tiny_image(), tiny_ids(), zero_noise)
        assert bool((before - after).abs().max() > 1e-5) == uses_mlp


@pytest.mark.parametrize("variant", ["clip", "pubmedclip"])
def test_a_checkpoint_that_holds_the_towers_twice_is_taken(variant: str) -> None:
    network = tiny_network(variant)
    own = network.state_dict()
    theirs = dict(own)
    theirs["clip_model.token_embedding.weight"] = theirs.pop(
        "text_model.token_embedding.weight"
    )
    for key, value in own.items():
        place = key.replace("vision_model.", "visual.").replace("text_model.", "")
        if key.startswith(("vision_model.", "text_model.", "logit_scale")):
            theirs["clip_model." + place] = value
    other = MedCLIPSeg(network.config)
    assert not any(other.load_state_dict(theirs))
    for key, value in other.state_dict().items():
        torch.testing.assert_close(value, own[key], rtol=0, atol=0)


def test_a_bert_variant_refuses_a_whole_clip() -> None:
    network = tiny_network()
    state = {**network.state_dict(), "clip_model.logit_scale": torch.zeros(())}
    with pytest.raises(RuntimeError, match=r"clip_model\.logit_scale"):
        network.load_state_dict(state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_keeps_what_precedes_the_draws(variant: str) -> None:
    network = tiny_network(variant)
    ids = tiny_ids()
    single = network(tiny_image(), ids, zero_noise).sigmoid()
    tokens = network.encode_normalised(tiny_image())
    network.lighten()
    kept = network.encode_normalised(tiny_image())
    assert kept.tokens.dtype == torch.float32
    torch.testing.assert_close(kept.tokens, tokens.tokens, rtol=0, atol=0)
    assert network.mask_head[0].weight.dtype == torch.bfloat16
    assert network.vision_model.project(kept.light().tokens).dtype == torch.bfloat16
    logits = network.draw(
        kept.light(), network.encode_words(ids), network.word_mask(ids), zero_noise
    ).logits
    half = torch.nn.functional.interpolate(
        logits.float(), (SIDE, SIDE), mode="bilinear"
    )
    assert (half[:, 0].sigmoid() - single).abs().max() < 0.05


def test_the_logits_are_four_times_as_fine_as_the_patches() -> None:
    network = tiny_network()
    ids = tiny_ids()
    output = network.draw(
        network.encode_normalised(tiny_image()),
        network.encode_words(ids),
        network.word_mask(ids),
        zero_noise,
    )
    assert output.logits.shape == (1, 1, 4 * GRID, 4 * GRID)
    assert output.patch_tokens.shape == (1, 1 + GRID**2, 16)


def test_a_configuration_survives_json() -> None:
    config = tiny_config("clip", beta=1.0, order="none", compatible=False)
    assert MedCLIPSegConfig.from_dict(config.to_dict()) == config
    theirs = MedCLIPSegConfig.from_dict({"num_upscale": 1, "num_adapters": 3})
    assert (theirs.upscale_blocks, theirs.layers) == (1, (1, 2, 3))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"variant": "vit"}, "variant must be one of unimedclip"),
        ({"order": "both"}, "order must be one of vision_first"),
        ({"layers": (1, 12)}, "layers must be from 0 to 11"),
        ({"adapter_dim": 0}, "adapter_dim must be at least 1"),
        ({"gates": True}, "expected fields of MedCLIPSeg, got gates too"),
    ],
)
def test_what_cannot_be_is_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MedCLIPSegConfig.from_dict(choices)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("order", ["vision_first", "text_first", "none", "unimodal"])
def test_what_is_left_out_changes_nothing(variant: str, order: str) -> None:
    network = tiny_network(variant, order=order)
    short = network(tiny_image(), tiny_ids(), _generator())
    network.plain = True
    whole = network(tiny_image(), tiny_ids(), _generator())
    torch.testing.assert_close(short, whole, rtol=0, atol=1e-5)
