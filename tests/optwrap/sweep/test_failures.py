from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from optwrap.sweep.failures import override


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]) | st.sampled_from("'\"\\ =,[]{}()"), min_size=1)
)
def test_any_folder_is_typed_so_that_hydra_reads_its_name(folder):
    if "$" not in folder:
        assert str(OverridesParser.create().parse_override(override(folder)).value()) == folder
