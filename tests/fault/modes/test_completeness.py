"""Every failure mode that is promised has its test here."""

from __future__ import annotations

import ast
from pathlib import Path

NAMES = (
    "split_brain",
    "consensus_ahead",
    "disk_ahead",
    "reordered_recreate",
    "half_atomic",
    "never_quiet",
    "etcd_went_back",
    "mass_deletion",
    "ref_before_objects",
    "backlog_first",
    "maintenance_is_not_deletion",
    "df_conflict",
    "kill_anywhere",
    "lying_peer",
    "etcd_trouble",
    "disk_trouble",
    "clock_wrong",
    "identity_clash",
    "stale_view",
    "gate_bypass",
    "late_proposal",
    "reaped_create",
    "prune_race",
    "replaced_history",
    "leftover_lock",
    "symref_flip",
    "disk_restored",
    "unadopted_blocks",
    "site_lost",
    "stale_read",
)


# In a class, since every plain test function of this folder is one of a failure mode.
class TestFolder:
    def test_every_failure_mode_has_a_plain_test_function_of_its_name(self) -> None:
        found = {
            node.name
            for path in Path(__file__).parent.glob("test_*.py")
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef)
        }
        assert len(NAMES) == len(set(NAMES)) == 30
        assert [n for n in NAMES if not any(f == f"test_{n}" or f.startswith(f"test_{n}_") for f in found)] == []
