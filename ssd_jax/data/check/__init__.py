"""Looks a dataset over before a run: `python -m ssd_jax.data.check --config configs/voc300.py`."""
