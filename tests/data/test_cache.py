"""Caches change nothing: batches equal those without one, whoever makes them."""

import dataclasses
import logging

import jax
import numpy as np
import pytest

from ssd_jax.data.cache import DeviceCache, HostCache
from ssd_jax.data.example import Dataset
from ssd_jax.data.policies import Policies
from ssd_jax.sharding import make_mesh, shardings
from tests.data.test_loader import assert_same, file_dataset, joined, train

STEPS = 9


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return file_dataset(tmp_path_factory.mktemp("pngs"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return file_dataset(tmp_path_factory.mktemp("broken"), broken=4)


def rows_over(devices: list[jax.Device]) -> jax.sharding.NamedSharding:
    return shardings(make_mesh(devices))[1]


def fetched(batches):
    return [{key: np.asarray(value) for key, value in batch.items()} for batch in batches]


@pytest.mark.parametrize("start", [0, 1, 5, 8])
@pytest.mark.parametrize("cache", ["host", "device"])
def test_a_cached_run_sees_the_same_batches_from_any_step(dataset: Dataset, cache, start: int):
    cached = train(
        dataset, STEPS, start_step=start, cache=cache, sharding=rows_over(jax.devices()[:4])
    )
    assert_same(train(dataset, STEPS)[start:], fetched(cached))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cache", ["host", "device"])
def test_workers_fill_a_cache_with_the_same(dataset: Dataset, cache, workers: int):
    cached = train(
        dataset, STEPS, workers=workers, cache=cache, sharding=rows_over(jax.devices()[:1])
    )
    assert_same(train(dataset, STEPS), fetched(cached))


@pytest.mark.parametrize("cache", ["none", "host", "device"])
def test_two_processes_share_the_same_batches(dataset: Dataset, cache):
    parts = [
        train(
            dataset,
            STEPS,
            start_step=2,
            cache=cache,
            # Each process has devices of its own.
            sharding=rows_over(jax.devices()[2 * index : 2 * index + 2]),
            process_index=index,
            process_count=2,
        )
        for index in (0, 1)
    ]
    together = [joined(pair) for pair in zip(*map(fetched, parts), strict=True)]
    assert_same(train(dataset, STEPS)[2:], together)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_the_device_cache_is_spread_over_the_devices(dataset: Dataset, count: int):
    devices = jax.devices()[:count]
    options = dict(batch_size=8, cache="device", sharding=rows_over(devices))
    batches = train(dataset, 4, **options)
    assert_same(train(dataset, 4, batch_size=8), fetched(batches))
    for batch in batches:
        assert batch["image"].sharding.is_equivalent_to(rows_over(devices), 4)
        assert len(batch["image"].addressable_shards) == count


@pytest.mark.parametrize("cache", ["host", "device"])
def test_policies_reach_into_the_cache(broken: Dataset, cache, caplog):
    policies = Policies("ignore", background="drop", undecodable="skip")
    expected = train(dataclasses.replace(broken, skipped=set()), STEPS, policies=policies)
    broken = dataclasses.replace(broken, skipped=set())  # nothing was said of this one
    caplog.clear()
    cached = train(
        broken, STEPS, policies=policies, cache=cache, sharding=rows_over(jax.devices()[:2])
    )
    assert_same(expected, fetched(cached))
    assert sum("4.png" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("cache", ["host", "device"])
def test_a_broken_image_stops_the_filling(broken: Dataset, cache):
    with pytest.raises(ValueError, match=r"4\.png of pngs, split all"):
        train(broken, STEPS, cache=cache, sharding=rows_over(jax.devices()[:1]))


def test_the_need_is_logged_before_anything_is_read(caplog):
    caplog.set_level(logging.INFO, "ssd_jax")
    HostCache(200, 100, 3)
    assert "data.cache=host keeps 200 canvases of 100 x 100 pixels" in caplog.text
    assert "0.01 GB" in caplog.text
    caplog.clear()
    DeviceCache(200, 100, 3, rows_over(jax.devices()[:4]))
    assert "50 of 200 canvases of 100 x 100 pixels on each of 4 devices: 0.00 GB" in caplog.text


def test_what_does_not_fit_is_refused_at_once():
    with pytest.raises(MemoryError, match=r"host keeps 100000000 .* GB are free: use data\.cache="):
        HostCache(100_000_000, 500, 3)
    with pytest.raises(MemoryError, match=r"100000000 of 100000000 .*data\.cache=host or none"):
        DeviceCache(100_000_000, 500, 3, rows_over(jax.devices()[:1]))


def test_a_finished_run_decodes_nothing(broken: Dataset):
    assert train(broken, 3, start_step=3, cache="host") == []


def test_progress_counts_the_images(dataset: Dataset):
    seen = []
    train(dataset, 1, cache="host", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(7, 7)]


def test_an_unknown_cache_is_named(dataset: Dataset):
    with pytest.raises(ValueError, match=r"data\.cache is 'disk'"):
        train(dataset, 1, cache="disk")
