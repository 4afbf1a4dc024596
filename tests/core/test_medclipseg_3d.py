"""MedCLIPSeg on volumes: the same equations with one axis more."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.networks.nets.vit import ViT
from scipy.ndimage import convolve
from scipy.special import erf

from napari_medvlseg.core.backbones.volume_tower import VolumeVision, boxes_of
from napari_medvlseg.core.errors import ImageError, PromptError
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig
from napari_medvlseg.core.models.medclipseg.head import ScaleBlock, enlarge
from napari_medvlseg.core.models.medclipseg.windows import MedCLIPSegWindows
from napari_medvlseg.core.models.medclipseg.words import bert_tokenizer
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.postprocess import to_labels
from napari_medvlseg.core.sampling import DrawNoise, Place
from napari_medvlseg.core.uncertainty import (
    RunningStatistics,
    binary_entropy,
    mutual_information,
)
from tests.tiny_m3dclip import (
    GRID,
    PATCH,
    SIZE,
    VISION,
    tiny_volume,
    tiny_volume_config,
    tiny_volume_network,
    tiny_words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medvlseg.core.models.medclipseg.network import MedCLIPSegOutput

SAMPLES = 4


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw(network: MedCLIPSeg, noise: Any = zero_noise) -> MedCLIPSegOutput:
    ids = tiny_words()
    return network.draw(
        network.encode_normalised(tiny_volume()),
        network.encode_words(ids),
        network.word_mask(ids),
        noise,
    )


@pytest.fixture(scope="module")
def windows() -> Iterator[MedCLIPSegWindows]:
    network = tiny_volume_network()
    with torch.inference_mode():
        yield MedCLIPSegWindows(network, bert_tokenizer(network.config))


def test_boxes_are_cut_along_each_axis() -> None:
    voxels = torch.arange(prod(SIZE)).reshape(1, 1, *SIZE)
    boxes = boxes_of(voxels, PATCH)
    assert boxes.shape == (1, prod(GRID), prod(PATCH))
    place = int(np.ravel_multi_index((1, 2, 1), GRID))
    expected = voxels[0, 0, 2:4, 8:12, 4:8].flatten()
    torch.testing.assert_close(boxes[0, place], expected, rtol=0, atol=0)


def test_the_tower_computes_what_monais_vit_does() -> None:
    """M3D-CLIP is MONAI's ViT: the same numbers from the same weights."""
    tower = VolumeVision(VISION)
    tower.cls_token.data.normal_(generator=_generator())
    theirs = ViT(
        1,
        SIZE,
        PATCH,
        hidden_size=VISION.width,
        mlp_dim=4 * VISION.width,
        num_layers=VISION.layers,
        num_heads=VISION.heads,
        proj_type="perceptron",
        classification=True,
        spatial_dims=3,
    )
    renamed = {
        key.replace("patch_embedding.patch_embeddings.1", "patch_embed")
        .replace("patch_embedding.position_embeddings", "pos_embed")
        .replace("out_proj", "proj")
        .replace("linear", "fc"): key
        for key in theirs.state_dict()
    }
    own = tower.state_dict()
    shared = {renamed[key]: own[key] for key in own if not key.startswith("head.")}
    theirs.load_state_dict(shared, strict=False)
    last: torch.Tensor = theirs(tiny_volume())[1][-1]
    tokens = tower.embed(tiny_volume())
    for index in range(VISION.layers):
        tokens = tower.run(index, tokens)
    torch.testing.assert_close(tokens, last, atol=1e-5, rtol=1e-5)
    expected = tower.head(theirs.norm(last))
    torch.testing.assert_close(tower.project(tokens), expected, atol=1e-5, rtol=1e-5)


def test_a_block_doubles_each_axis_by_its_equations() -> None:
    """Transposed convolution, GELU, a convolution of each channel, LayerNorm."""
    torch.nn.init.normal_(
        (block := ScaleBlock(3, 3)).norm.weight, generator=_generator()
    )
    volume = torch.randn(1, 3, 2, 3, 2, generator=_generator(1))
    found = block(volume)[0].detach().double().numpy()
    p = {name: x.detach().double().numpy() for name, x in block.named_parameters()}
    wide = np.einsum("cijk,cdxyz->dixjykz", volume[0].double(), p["conv1.weight"])
    wide = wide.reshape(3, 4, 6, 4) + p["conv1.bias"][:, None, None, None]
    curved = wide * 0.5 * (1 + erf(wide / np.sqrt(2)))
    smooth = np.stack(
        [
            convolve(channel, kernel[0][::-1, ::-1, ::-1], mode="constant")
            for channel, kernel in zip(curved, p["conv2.weight"], strict=True)
        ]
    )
    centred = smooth - smooth.mean(axis=0)
    normed = centred / np.sqrt(smooth.var(axis=0) + 1e-6)
    expected = normed * p["norm.weight"][:, None, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_voxels_are_compared_with_the_texts_vector() -> None:
    network = tiny_volume_network()
    output = _draw(network)
    assert output.patch_tokens.shape == (1, 1 + prod(GRID), 16)
    assert output.logits.shape == (1, 1, *(4 * side for side in GRID))
    tokens = output.patch_tokens[0, 1:].reshape(*GRID, 16).permute(3, 0, 1, 2)
    unit = tokens / tokens.norm(dim=0, keepdim=True)
    voxels = network.upscale(unit[None])[0].double().numpy()
    text = output.text_embedding / output.text_embedding.norm(dim=-1, keepdim=True)
    vector = network.mask_head(text)[0].double().numpy()
    expected = np.tensordot(vector, voxels, axes=1)
    np.testing.assert_allclose(output.logits[0, 0], expected, atol=1e-5)


def test_logits_are_enlarged_along_straight_lines() -> None:
    """Trilinear: a ramp stays a ramp, but for the rim, along each axis."""
    i, j, k = torch.meshgrid(*(torch.arange(n) for n in (4, 3, 3)), indexing="ij")
    coarse = (2.0 * i - 3.0 * j + k)[None, None]
    fine = enlarge(coarse, (8, 6, 9))[0, 0]
    at = [(torch.arange(n) + 0.5) * c / n - 0.5 for n, c in ((8, 4), (6, 3), (9, 3))]
    x, y, z = torch.meshgrid(*at, indexing="ij")
    torch.testing.assert_close(
        fine[1:-1, 1:-1, 1:-1], (2 * x - 3 * y + z)[1:-1, 1:-1, 1:-1]
    )
    assert enlarge(coarse, (4, 3, 3)) is coarse


def test_volume_prompt_and_noise_decide_a_draw() -> None:
    network = tiny_volume_network()
    logits = network(tiny_volume(), tiny_words(), _generator())
    assert logits.shape == (1, *SIZE)
    again = network(tiny_volume(), tiny_words(), _generator())
    torch.testing.assert_close(again, logits, rtol=0, atol=0)
    for other in (
        network(tiny_volume(2), tiny_words(), _generator()),
        network(tiny_volume(), tiny_words(30, 31), _generator()),
        network(tiny_volume(), tiny_words(), _generator(1)),
    ):
        assert (other - logits).abs().max() > 1e-4


def test_volumes_of_another_size_are_refused() -> None:
    with pytest.raises(ImageError, match="resize them or cut them into windows"):
        tiny_volume_network().encode_normalised(torch.zeros(1, 1, 4, 16, 16))


def test_intensities_are_told_from_0_to_1() -> None:
    network = tiny_volume_network(compatible=True)
    pixels = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(network.normalise(pixels), torch.tensor([0.0, 0.5, 1.0]))


def test_an_ablation_is_a_setting_in_3d_too() -> None:
    """Without adapters no draw differs and the volume knows nothing of the text."""
    network = tiny_volume_network(adapters=False, head="evidential")
    output = _draw(network)
    assert not network.samples
    assert output.belief is not None
    assert output.belief.support.shape == (1, 1, *(4 * side for side in GRID))
    plain = tiny_volume_network()
    assert (_draw(plain).patch_tokens - output.patch_tokens).abs().max() > 1e-3


def test_the_gradient_reaches_every_part_that_learns() -> None:
    network = tiny_volume_network().requires_grad_(requires_grad=True)
    output = _draw(network, _generator())
    (output.logits.square().mean() + output.vision_embedding.sum()).backward()
    untouched = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None and name != "logit_scale"
    ]
    assert untouched == []


def test_a_configuration_of_three_axes_survives_json() -> None:
    config = tiny_volume_config()
    told = config.to_dict()
    told["vision"] |= {"patch_size": list(PATCH), "image_size": list(SIZE)}
    assert MedCLIPSegConfig.from_dict(told) == config
    with pytest.raises(ValueError, match="image_size of 2 sides for clip"):
        MedCLIPSegConfig(variant="clip", vision=VISION)
    with pytest.raises(ValueError, match="an image of whole patches"):
        MedCLIPSegConfig.from_dict(told | {"vision": {"image_size": [4, 4, 4]}})


def test_the_defaults_are_m3d_clips() -> None:
    config = MedCLIPSegConfig(variant="m3dclip")
    assert config.vision_shape.grid == (8, 16, 16)
    assert config.text_shape.max_tokens == 128
    with torch.device("meta"):
        network = MedCLIPSeg(config)
    tokens = network.vision_model.pos_embed.shape
    assert tokens == (1, 2048, 768)
    block: Any = network.upscale[0]
    assert block.conv1.weight.shape == (768, 768, 2, 2, 2)
    assert network.text_model.proj.weight.shape == (768, 768)


def test_the_window_is_looked_at_once_for_all_prompts(
    windows: MedCLIPSegWindows,
) -> None:
    words = windows.read(["hippocampus", "anterior hippocampus"])
    seen = windows.look(tiny_volume(), words)
    noise = DrawNoise(3, range(2), Place())
    logits = windows.draw(seen, 2, noise)
    assert logits.shape == (2, 2, *SIZE)
    ids = windows._tokenizer(["anterior hippocampus"]).ids
    single = windows.network(tiny_volume(), ids, zero_noise)
    together = windows.draw(seen, 1, zero_noise)
    torch.testing.assert_close(together[:, 1], single, atol=1e-5, rtol=0)


def test_other_prompts_and_draws_change_nothing(windows: MedCLIPSegWindows) -> None:
    long, short = "the posterior part of the hippocampus", "hippocampus"

    def draws(texts: list[str], numbers: range) -> torch.Tensor:
        seen = windows.look(tiny_volume(), windows.read(texts))
        return windows.draw(seen, len(numbers), DrawNoise(5, numbers, Place()))

    both = draws([long, short], range(3))
    torch.testing.assert_close(draws([short], range(3))[:, 0], both[:, 1])
    torch.testing.assert_close(
        draws([long], range(1, 2))[0], both[1, :1], atol=1e-5, rtol=0
    )
    assert (both[0] - both[1]).abs().max() > 1e-4


def test_draws_become_maps_of_a_volume(windows: MedCLIPSegWindows) -> None:
    """Mean, entropies and labels over the draws, against NumPy on the stack."""
    seen = windows.look(tiny_volume(), windows.read(["hippocampus", "white matter"]))
    drawn = windows.draw(seen, SAMPLES, DrawNoise(0, range(SAMPLES), Place()))
    statistics = [RunningStatistics() for _ in range(2)]
    for draw in drawn:
        for each, logits in zip(statistics, draw, strict=True):
            each.add(logits[None])
    probability, expected = (
        np.stack(maps)
        for maps in zip(*(each.means().numpy() for each in statistics), strict=True)
    )
    assert probability.shape == (2, *SIZE)
    p = drawn.sigmoid().double().numpy()
    np.testing.assert_allclose(probability, p.mean(axis=0), atol=1e-5)
    each = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    np.testing.assert_allclose(expected, each.mean(axis=0), atol=1e-5)
    information = mutual_information(binary_entropy(probability), expected)
    assert information.max() > 1e-6
    labels = to_labels(probability, 0.5)
    best = np.where(probability.max(axis=0) > 0.5, probability.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(labels, best)


def test_a_prompt_that_is_too_long_is_told(windows: MedCLIPSegWindows) -> None:
    with pytest.raises(PromptError, match="at most 12 word pieces"):
        windows.read(["hippocampus " * 12])


def test_the_width_tells_what_a_voxel_costs() -> None:
    network = tiny_volume_network()
    tiny = MedCLIPSegWindows(network, bert_tokenizer(network.config))
    cells, voxels = prod(4 * side for side in GRID), prod(SIZE)
    assert tiny.width == 16 * cells // voxels
    assert tiny.samples
    assert not tiny.exclusive
