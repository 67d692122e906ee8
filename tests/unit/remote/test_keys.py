"""Key pairs that are made and kept."""

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from multicompute.errors import MulticomputeError
from multicompute.remote.keys import ensure, generate


def test_a_key_pair_is_one_that_openssh_reads(tmp_path: Path) -> None:
    pair = generate("multicompute demo")
    (tmp_path / "key").write_text(pair.private)
    (tmp_path / "key").chmod(0o600)
    done = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == pair.public.split()[:2]
    assert pair.public.endswith("multicompute demo")
    assert "PRIVATE" not in repr(pair)


def test_a_key_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "data" / "keys" / "demo"
    pair = ensure(path, "demo")
    assert ensure(path, "other") == pair
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.with_name("demo.pub").read_text() == f"{pair.public}\n"
    assert sorted(found.name for found in path.parent.iterdir()) == ["demo", "demo.pub"]


def test_processes_that_make_a_key_at_once_agree_on_one(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from multicompute.remote.keys import ensure; print(ensure(Path(sys.argv[1]), 'x').public)"
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(
                lambda _: (
                    subprocess.run(
                        [sys.executable, "-c", code, str(tmp_path / "key")], capture_output=True, text=True, check=True
                    ).stdout
                ),
                range(4),
            )
        )
    assert len(set(made)) == 1


def test_a_file_that_is_no_key_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("mine")
    with pytest.raises(MulticomputeError, match="no key can be kept there"):
        ensure(tmp_path / "key", "demo")
    assert (tmp_path / "key").read_text() == "mine"
