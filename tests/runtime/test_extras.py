import pytest

from kerasrep.errors import RunError
from kerasrep.runtime.extras import require


def test_a_missing_library_is_named_with_what_needs_it_and_the_line_to_install_it():
    require("study", ("json", "numpy"), "kerasrep-study")
    message = r"^kerasrep-study: needs no_such_library; python -m pip install 'kerasrep\[study\]'$"
    with pytest.raises(RunError, match=message):
        require("study", ("json", "no_such_library"), "kerasrep-study")
