import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_generated_tables_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}: type make docs"
