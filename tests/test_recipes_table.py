from ssd_jax import config as config_lib
from ssd_jax.recipes_table import PAGE, page, table


def test_the_page_is_what_the_configs_say():
    assert PAGE.read_text() == page(), "run python -m ssd_jax.recipes_table"


def test_only_fields_that_differ_have_a_row():
    first, second = config_lib.base(), config_lib.base()
    second.train.steps = 7
    second.augment.crop_min_ious = ()
    second.model.batch_norm = True
    assert table({"first": first, "second": second}) == (
        "| | first | second |\n"
        "| --- | --- | --- |\n"
        "| `augment.crop_min_ious` | 0.1, 0.3, 0.5, 0.7, 0.9 | - |\n"
        "| `model.batch_norm` | False | True |\n"
        "| `train.steps` | 120,000 | 7 |\n"
    )
