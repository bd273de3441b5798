"""What is kept from being loaded is there again afterwards."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from guardrails.absent import absent


def test_a_hidden_package_is_missing_inside_and_there_again_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with absent("wave", "json"):
        with pytest.raises(ImportError):
            importlib.import_module("wave")
        assert importlib.import_module("json").dumps(1) == "1", "what is loaded stays"
    assert importlib.import_module("wave").Wave_read is not None


def test_personal_data_are_found_without_torch() -> None:
    program = (
        "import sys\n"
        "from guardrails.checks.pii import PersonalData\n"
        "found = PersonalData().find('jane.doe@example.com')\n"
        "assert [each.kind for each in found] == ['EMAIL_ADDRESS'], found\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
