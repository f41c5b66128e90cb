"""What is taken for a hook."""

import pytest

from optwrap.errors import ConfigError
from optwrap.hooks import EarlyStopping
from optwrap.hooks.hook import METHODS, check_hook
from tests.optwrap.hooks import own


@pytest.mark.parametrize("hook", [EarlyStopping(), own.Noting(), own.Counting(), own.StoppingAtOnce()])
def test_any_of_the_methods_make_a_hook(hook):
    check_hook(hook, "hooks.mine")


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (own.Nothing(), "hooks.mine: Nothing has none of the methods of a hook."),
        (own.Misspelt(), "nothing calls Misspelt.after_updates. Did you mean 'after_update'?"),
        (own.Foreign(), "nothing calls Foreign.on_train_end."),
    ],
)
def test_a_class_without_a_method_or_with_a_misspelt_one_is_told_which_there_are(hook, message):
    with pytest.raises(ConfigError) as error:
        check_hook(hook, "hooks.mine")
    assert message in str(error.value)
    assert all(f"\n  {method}(" in str(error.value) for method in METHODS)


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (
            own.TooFew(),
            "TooFew.after_evaluation takes other arguments than those of after_evaluation(run",
        ),
        (own.OnlySaving(), "OnlySaving has only one of state_dict and load_state_dict"),
    ],
)
def test_a_method_that_could_not_be_called_is_found_before_the_run(hook, message):
    with pytest.raises(ConfigError) as error:
        check_hook(hook, "hooks.mine")
    assert message in str(error.value)
