"""Every equation of the training against direct NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig
from napari_medvlseg.core.models.bipvlseg.network import AlignmentHead
from napari_medvlseg.core.training.bipvlseg.config import AlignmentSettings
from napari_medvlseg.core.training.bipvlseg.losses import (
    TaskWeights,
    aggregate,
    alignment_loss,
    class_embedding_loss,
    hard_info_nce,
    info_nce,
    segmentation_loss,
)
from napari_medvlseg.core.training.noise import SampleNoise
from tests.core.bipvlseg.numpy_layers import linear, randomise, softmax

if TYPE_CHECKING:
    from tests.core.bipvlseg.numpy_layers import Array

B, N, K, E = 2, 5, 3, 4
TAU = 0.2
QUIET = AlignmentSettings(noise=0.0)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _embeddings() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    seen = torch.nn.functional.normalize(_random(B, N, E), dim=-1)
    said = torch.nn.functional.normalize(_random(N, K, E, seed=1), dim=-1)
    return seen, said, torch.ones(N, K, dtype=torch.bool)


def test_equations_1_and_11_to_13_dice_and_cross_entropy() -> None:
    logits, size = _random(B, 3, 2, 3, 2), (2, 3, 2)
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (B, 1, *size), generator=generator)
    p = np.moveaxis(softmax(np.moveaxis(logits.numpy(), 1, -1)), -1, 1)
    g = np.stack([labels[:, 0].numpy() == c for c in range(3)], axis=1).astype(float)
    axes = (2, 3, 4)
    both = (p * g).sum(axes)
    dice = 1 - (2 * both + 1e-5) / ((p**2).sum(axes) + (g**2).sum(axes) + 1e-5)
    entropy = -(g * np.log(p)).sum(axis=1).mean()
    found = segmentation_loss(logits, labels)
    assert float(found) == pytest.approx(dice.mean() + entropy)


def test_overlapping_classes_have_a_sigmoid_each() -> None:
    logits = _random(B, 3, 2, 2, 2)
    masks = (_random(B, 3, 2, 2, 2, seed=4) > 0).double()
    p, g = 1 / (1 + np.exp(-logits.numpy())), masks.numpy()
    axes = (2, 3, 4)
    dice = 1 - 2 * (p * g).sum(axes) / ((p**2).sum(axes) + (g**2).sum(axes) + 1e-5)
    entropy = -(g * np.log(p) + (1 - g) * np.log(1 - p)).mean()
    found = segmentation_loss(logits, masks, overlapping=True)
    assert float(found) == pytest.approx(dice.mean() + entropy)


def test_equation_3_class_maps_learn_from_the_decoder_and_not_it_from_them() -> None:
    maps = _random(B, 3, 2, 1, 2).requires_grad_()
    logits = _random(B, 3, 4, 2, 6, seed=6).requires_grad_()
    coarse = logits.detach().numpy().reshape(B, 3, 2, 2, 1, 2, 2, 3).mean((3, 5, 7))
    target = softmax(np.moveaxis(coarse, 1, -1))
    own = softmax(np.moveaxis(maps.detach().numpy(), 1, -1))
    expected = -(target * np.log(own)).sum(-1).mean()
    loss = class_embedding_loss(maps, logits)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert logits.grad is None
    assert maps.grad is not None
    assert float(maps.grad.abs().max()) > 0
    p = 1 / (1 + np.exp(-maps.detach().numpy()))
    t = 1 / (1 + np.exp(-coarse))
    expected = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    found = class_embedding_loss(maps, logits, overlapping=True)
    assert found.item() == pytest.approx(expected)


def test_equation_4_projections_have_length_1() -> None:
    config = BiPVLConfig(classes=N, class_grid=(2, 1, 2), embedding_dim=E)
    head = AlignmentHead(config, text_dim=7)
    randomise(head)
    maps, concepts = _random(B, N + 1, 4, 2, 2), _random(N, K, 7, seed=8)
    seen, said = head(maps, concepts)
    cells = maps.numpy()[:, 1:].reshape(B, N, 2, 2, 1, 2, 2, 1).mean((3, 5, 7))
    expected = _unit(linear(head.to_vision, cells.reshape(B, N, 4)))
    np.testing.assert_allclose(seen.detach().numpy(), expected)
    expected = _unit(linear(head.to_text, concepts.numpy()))
    np.testing.assert_allclose(said.detach().numpy(), expected)


def test_equation_4_concepts_count_by_their_likeness_to_the_image() -> None:
    seen, said, present = _embeddings()
    present[2, 1] = False
    found = aggregate(seen, said, present).numpy()
    for b in range(B):
        for n in range(N):
            there = [k for k in range(K) if present[n, k]]
            own = said[n].numpy()[there]
            weight = np.exp(own @ seen[b, n].numpy())
            expected = (weight / weight.sum()) @ own
            np.testing.assert_allclose(found[b, n], expected)


def _info_nce(similarity: Array) -> float:
    own = np.diagonal(similarity) / TAU
    return float(np.mean(np.log(np.exp(similarity / TAU).sum(axis=1)) - own))


def test_equations_5_and_6_the_global_alignment() -> None:
    seen, said, present = _embeddings()
    settings = replace(QUIET, local_weight=0.0)
    found = alignment_loss(seen, said, present, settings, _refuse)
    text = aggregate(seen, said, present).numpy()
    expected = []
    for b in range(B):
        s = _unit(seen[b].numpy()) @ _unit(text[b]).T
        expected.append(0.5 * (_info_nce(s) + _info_nce(s.T)))
    assert float(found) == pytest.approx(np.mean(expected))
    one = _random(N, N)
    assert float(info_nce(one, TAU)) == pytest.approx(_info_nce(one.numpy()))


def _hard(similarity: Array, negatives: int, *, positive: bool) -> float:
    """Equation 7, class by class."""
    losses = []
    for i in range(len(similarity)):
        wrong = [similarity[i, j] for j in range(len(similarity)) if j != i]
        hardest = sorted(wrong, reverse=True)[:negatives]
        if positive:
            hardest.append(similarity[i, i])
        total = np.exp(np.array(hardest) / TAU).sum()
        losses.append(-np.log(np.exp(similarity[i, i] / TAU) / total))
    return float(np.mean(losses))


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("negatives", [1, 3, 9])
def test_equation_7_the_most_similar_wrong_classes(
    negatives: int, *, positive: bool
) -> None:
    similarity = _random(N, N)
    settings = replace(QUIET, negatives=negatives, positive_in_sum=positive)
    expected = _hard(similarity.numpy(), negatives, positive=positive)
    assert float(hard_info_nce(similarity, settings)) == pytest.approx(expected)


def test_equation_7_as_printed_falls_below_0_where_classes_are_told_apart() -> None:
    """Then equation 15 would have no minimum; with the right class it stays above."""
    apart = 2 * torch.eye(N, dtype=torch.float64) - 1
    printed = hard_info_nce(apart, replace(QUIET, positive_in_sum=False))
    assert float(printed) < 0
    assert float(hard_info_nce(apart, QUIET)) > 0


def test_equation_8_both_directions_and_all_concepts() -> None:
    seen, said, present = _embeddings()
    settings = replace(QUIET, global_weight=0.0)
    found = alignment_loss(seen, said, present, settings, _refuse)
    per_concept = []
    for k in range(K):
        for b in range(B):
            s = said[:, k].numpy() @ seen[b].numpy().T
            per_concept += [_hard(s, 3, positive=True), _hard(s.T, 3, positive=True)]
    assert float(found) == pytest.approx(np.mean(per_concept))


def test_a_concept_that_a_class_lacks_is_no_negative_and_no_row() -> None:
    similarity = _random(N, N)
    rows = torch.tensor([True, True, False, True, True])
    kept = [0, 1, 3, 4]
    expected = _hard(similarity.numpy()[np.ix_(kept, kept)], 3, positive=True)
    found = hard_info_nce(similarity, QUIET, rows)
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("positive", [True, False])
def test_one_class_has_nothing_to_be_told_from(*, positive: bool) -> None:
    similarity = torch.ones(2, 1, 1, requires_grad=True)
    settings = replace(QUIET, positive_in_sum=positive)
    assert hard_info_nce(similarity, settings).item() == 0


def test_rows_without_negatives_give_no_nan_to_the_gradient() -> None:
    similarity = _random(N, N).requires_grad_()
    rows = torch.tensor([True, False, False, False, True])
    settings = replace(QUIET, positive_in_sum=False)
    hard_info_nce(similarity, settings, rows).backward()
    assert similarity.grad is not None
    assert bool(similarity.grad.isfinite().all())


def test_equation_9_weighs_global_and_local() -> None:
    seen, said, present = _embeddings()
    parts = [
        float(alignment_loss(seen, said, present, settings, _refuse))
        for settings in (
            replace(QUIET, local_weight=0.0),
            replace(QUIET, global_weight=0.0),
        )
    ]
    both = replace(QUIET, global_weight=0.5, local_weight=2.0)
    found = alignment_loss(seen, said, present, both, _refuse)
    assert float(found) == pytest.approx(0.5 * parts[0] + 2 * parts[1])


def test_embeddings_are_perturbed_by_the_noise_that_is_given() -> None:
    seen, said, present = _embeddings()
    settings = replace(QUIET, noise=0.1, local_weight=0.0)
    draws = [_random(B, N, E, seed=20), _random(B, N, E, seed=21)]
    given = iter(draws)
    found = alignment_loss(seen, said, present, settings, lambda _: next(given))
    image = seen + 0.1 * draws[0]
    text = aggregate(seen, said, present) + 0.1 * draws[1]
    s = torch.nn.functional.cosine_similarity(image[:, :, None], text[:, None], dim=-1)
    expected = 0.5 * (info_nce(s, TAU) + info_nce(s.mT, TAU))
    torch.testing.assert_close(found, expected)


def test_equation_15_balances_the_tasks() -> None:
    weights = TaskWeights()
    weights.log_sigma.data = torch.tensor([0.3, -0.2, 0.5])
    losses = np.array([0.7, 1.9, 0.4])
    sigma = np.exp([0.3, -0.2, 0.5])
    expected = (losses / (2 * sigma**2) + np.log(sigma)).sum()
    found = weights(torch.from_numpy(losses))
    assert found.item() == pytest.approx(expected)


def test_a_samples_noise_does_not_depend_on_its_batch() -> None:
    def generators(*seeds: int) -> SampleNoise:
        return SampleNoise(tuple(torch.Generator().manual_seed(s) for s in seeds))

    together, alone = generators(1, 2), generators(2)
    for shape in ((1, 4), (3, 2)):
        torch.testing.assert_close(together((2, *shape))[1:], alone((1, *shape)))


def _refuse(shape: tuple[int, ...]) -> torch.Tensor:
    pytest.fail(f"noise {shape} was asked for")
