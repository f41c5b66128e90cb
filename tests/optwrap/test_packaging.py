"""What `pyproject.toml` says twice, or says of files beside it, is the same in both places."""

import re
import tomllib

import pytest

import optwrap
from tests.pages import IS_TEMPLATE, ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS, GROUPS = PYPROJECT["project"]["optional-dependencies"], PYPROJECT["dependency-groups"]


@pytest.mark.skipif(not IS_TEMPLATE, reason="a project has a version of its own")
def test_the_template_has_the_version_of_its_library():
    assert PYPROJECT["project"]["version"] == optwrap.__version__


@pytest.mark.skipif(not IS_TEMPLATE, reason="a project has changes of its own")
def test_the_changelog_begins_with_this_version():
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == optwrap.__version__


def test_the_license_files_exist():
    assert all((ROOT / name).is_file() for name in PYPROJECT["project"].get("license-files", []))


@pytest.mark.parametrize("name", ["test", "dev"])
def test_a_dependency_group_names_what_its_extra_does(name):
    assert [each for each in GROUPS[name] if isinstance(each, str)] == EXTRAS[name]


def test_what_uv_installs_by_itself_can_run_the_tests():
    assert {"include-group": "test"} in GROUPS["dev"]
