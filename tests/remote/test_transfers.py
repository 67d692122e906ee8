"""Files and folders to and from several hosts."""

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from multicompute.errors import MulticomputeError, RunError, SpecError
from multicompute.remote.nodes import RemoteNodes
from tests.remote.hosts import Host

ODD = os.fsdecode(b"-odd 'name'\n\xff")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    source = tmp_path / "project"
    (source / "package" / "empty").mkdir(parents=True)
    (source / "train.py").write_text("print('training')\n")
    (source / "run.sh").write_text("#!/bin/sh\necho run\n")
    (source / "run.sh").chmod(0o750)
    (source / "package" / ODD).write_text("odd")
    (source / "link").symlink_to("train.py")
    (source / "broken").symlink_to("nowhere")
    return source


@pytest.fixture(autouse=True)
def _clean_homes(nodes: RemoteNodes) -> None:
    nodes.run("rm -rf there other place single 'with space' .multicompute-*")


def listing(nodes: RemoteNodes, folder: str) -> list[str]:
    results = nodes.run(["find", folder, "-printf", "%P|%M|%l\\0"])
    assert len({result.stdout for result in results}) == 1
    return sorted(results[0].stdout.split("\0")[1:-1])


def test_a_folder_arrives_with_modes_links_and_odd_names(nodes: RemoteNodes, project: Path) -> None:
    transfers = nodes.put(project, "there")
    assert [(done.rank, done.entries, done.left_out) for done in transfers] == [(rank, 8, ()) for rank in range(3)]
    shown = ODD.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert listing(nodes, "there") == sorted(
        [
            "broken|lrwxrwxrwx|nowhere",
            "link|lrwxrwxrwx|train.py",
            "package|drwxr-xr-x|",
            f"package/{shown}|-rw-r--r--|",
            "package/empty|drwxr-xr-x|",
            "run.sh|-rwxr-x---|",
            "train.py|-rw-r--r--|",
        ]
    )


def test_a_folder_is_merged_with_the_one_that_is_there(nodes: RemoteNodes, project: Path) -> None:
    nodes.run("mkdir -p there/package; echo old >there/train.py; echo kept >there/package/kept")
    nodes.put(project, "there")
    nodes.put(project, "there")
    assert [result.stdout for result in nodes.run("cat there/train.py there/package/kept; ls -A there | wc -l")] == [
        "print('training')\nkept\n5\n"
    ] * 3


def test_a_name_that_ends_in_a_slash_is_the_place(nodes: RemoteNodes, project: Path) -> None:
    nodes.put(project, "place/")
    nodes.put(project / "train.py", "place/")
    assert nodes.run("ls place")[0].stdout == "project\ntrain.py\n"


def test_a_file_gets_its_new_name_or_goes_into_a_folder(nodes: RemoteNodes, project: Path) -> None:
    nodes.put(project / "train.py", "~/other/new.py")
    nodes.put(project / "run.sh", "other")
    assert nodes.run("ls other; cat other/new.py; stat -c %a other/run.sh")[0].stdout == (
        "new.py\nrun.sh\nprint('training')\n750\n"
    )


def test_a_folder_with_odd_characters_is_a_place_as_well(nodes: RemoteNodes, project: Path) -> None:
    nodes.put(project / "train.py", "with space/$HOME/it's")
    assert nodes.run(["cat", "with space/$HOME/it's"])[0].stdout == "print('training')\n"


def test_a_file_that_is_in_use_is_replaced_in_one_step(nodes: RemoteNodes, project: Path) -> None:
    nodes.run("echo old >single")
    with_old = "exec 5<single; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; done; cat <&5"
    results: list[str] = []
    reader = threading.Thread(target=lambda: results.extend(result.stdout for result in other.run(with_old)))
    with RemoteNodes(nodes.targets) as other:
        reader.start()
        time.sleep(0.7)
        nodes.put(project / "train.py", "single")
        assert nodes.run("cat single")[0].stdout == "print('training')\n"
        reader.join()
    assert results == ["old\n"] * 3


def test_what_does_not_exist_here_is_refused(nodes: RemoteNodes, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        nodes.put(tmp_path / "none", "there")


def test_a_node_that_can_not_write_is_an_error_that_names_it(nodes: RemoteNodes, project: Path) -> None:
    with pytest.raises(RunError, match="rank 0") as caught:
        nodes.put(project, "/proc/none/there")
    assert [result.rank for result in caught.value.results] == [0, 1, 2]


def test_a_folder_does_not_replace_a_file(nodes: RemoteNodes, project: Path) -> None:
    nodes.run("echo old >there")
    with pytest.raises(RunError):
        nodes.put(project, "there")
    assert nodes.run("cat there; ls -A | grep -c multicompute; true")[0].stdout == "old\n0\n"


def test_a_file_that_can_not_be_read_changes_nothing_on_the_nodes(nodes: RemoteNodes, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("x" * 1000)
    shrinking = source / "b"
    with shrinking.open("wb") as stream:
        stream.truncate(10_000_000_000)

    def shrink() -> None:
        time.sleep(0.5)
        os.truncate(shrinking, 10)

    threading.Thread(target=shrink).start()
    with pytest.raises(MulticomputeError, match="can't be read"):
        nodes.put(source, "there")
    time.sleep(0.5)
    assert nodes.run("ls -A | grep -c -e there -e multicompute; true")[0].stdout == "0\n"


def test_every_rank_s_copy_has_a_folder_of_its_own(nodes: RemoteNodes, tmp_path: Path) -> None:
    nodes.run(
        "mkdir -p there/sub; echo $R >there/sub/rank; chmod 755 there/sub/rank; ln -s sub/rank there/link", env=ranked
    )
    transfers = nodes.get("there", tmp_path / "got")
    assert [(done.rank, done.entries) for done in transfers] == [(0, 4), (1, 4), (2, 4)]
    for rank in range(3):
        copy = tmp_path / "got" / str(rank) / "there"
        assert (copy / "sub" / "rank").read_text() == f"{rank}\n"
        assert stat.S_IMODE((copy / "sub" / "rank").stat().st_mode) == 0o755
        assert os.readlink(copy / "link") == "sub/rank"


def ranked(rank: int) -> dict[str, str]:
    return {"R": str(rank)}


def test_a_file_is_copied_under_its_name_also_through_a_link(nodes: RemoteNodes, tmp_path: Path) -> None:
    nodes.run("mkdir -p there; echo $R >there/step-7; ln -s step-7 there/latest", env=ranked)
    nodes.get("~/there/latest", tmp_path, ranks=[1])
    assert (tmp_path / "1" / "latest").read_text() == "1\n"
    assert not (tmp_path / "1" / "latest").is_symlink()


def test_a_copy_replaces_files_and_keeps_the_rest(nodes: RemoteNodes, tmp_path: Path) -> None:
    (tmp_path / "0" / "there").mkdir(parents=True)
    (tmp_path / "0" / "there" / "mine").write_text("mine")
    (tmp_path / "0" / "there" / "a").write_text("old")
    nodes.run("mkdir there; echo new >there/a")
    nodes.get("there", tmp_path, ranks=[0])
    assert (tmp_path / "0" / "there" / "a").read_text() == "new\n"
    assert (tmp_path / "0" / "there" / "mine").read_text() == "mine"


def test_a_link_that_leads_out_is_left_out_and_named(nodes: RemoteNodes, tmp_path: Path) -> None:
    nodes.run("mkdir there; echo x >there/a; ln -s /etc/passwd there/out; ln -s ../../.. there/up")
    (transfer,) = nodes.get("there", tmp_path, ranks=[0])
    assert sorted(path.name for path in (tmp_path / "0" / "there").iterdir()) == ["a"]
    assert len(transfer.left_out) == 2


def test_what_does_not_exist_there_is_an_error(nodes: RemoteNodes, tmp_path: Path) -> None:
    nodes.run("test $R = 2 || touch there", env=ranked)
    with pytest.raises(RunError, match="rank 2.*\n.*no such file or folder") as caught:
        nodes.get("there", tmp_path)
    assert caught.value.rank == 2


def test_a_login_shell_that_prints_does_not_get_into_files(
    nodes: RemoteNodes, project: Path, tmp_path: Path, hosts: list[Host]
) -> None:
    if not hosts[0].link:
        pytest.skip("hosts that share this machine have its login shell")
    nodes.run("echo 'echo Welcome; echo to this machine >&2' >~/.bashrc")
    try:
        nodes.put(project / "train.py", "there")
        nodes.get("there", tmp_path)
        assert (tmp_path / "2" / "there").read_text() == "print('training')\n"
    finally:
        nodes.run("rm ~/.bashrc")


def test_much_data_goes_both_ways(nodes: RemoteNodes, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 40
    (tmp_path / "big").write_bytes(data)
    nodes.put(tmp_path / "big", "there")
    nodes.get("there", tmp_path / "got")
    assert all((tmp_path / "got" / str(rank) / "there").read_bytes() == data for rank in range(3))


def test_a_node_that_is_cut_off_is_an_error_within_fifteen_seconds(
    nodes: RemoteNodes, hosts: list[Host], tmp_path: Path
) -> None:
    with (tmp_path / "big").open("wb") as stream:
        stream.truncate(20_000_000_000)
    nodes.connect()
    cut: list[float] = []

    def cut_off() -> None:
        hosts[1].cut()
        cut.append(time.monotonic())

    threading.Timer(0.7, cut_off).start()
    with pytest.raises(RunError) as caught:
        nodes.put(tmp_path / "big", "there")
    assert time.monotonic() - cut[0] < 15
    assert caught.value.rank == 1
