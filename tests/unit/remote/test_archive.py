"""What is packed and unpacked, and what is not let out of its folder."""

import io
import os
import socket
import stat
import tarfile
from pathlib import Path

import pytest

from multicompute.remote.archive import COMPLETE, DATA, pack, unpack


def packed(source: Path) -> tuple[bytes, int, tuple[str, ...]]:
    stream = io.BytesIO()
    count, left_out = pack(source, stream.write)
    return stream.getvalue(), count, left_out


def answer(data: bytes, kind: str = "folder") -> io.BytesIO:
    """What a node sends: noise of its login shell, the line, the archive."""
    return io.BytesIO(b"Welcome!\n\ntoken " + kind.encode() + b"\n" + data)


def archive(*members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as writer:
        for member in members:
            writer.addfile(member, io.BytesIO(b"x" * member.size))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = 3 if kind == tarfile.REGTYPE else 0
    return info


def test_a_folder_is_packed_with_modes_links_and_odd_names(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "run.sh").write_text("#!/bin/sh")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("run.sh")
    os.link(source / "run.sh", source / "second")
    odd = os.fsdecode(b"-odd \n\xff")
    (source / odd).write_text("x")
    data, count, left_out = packed(source)
    assert (count, left_out) == (6, ())
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as reader:
        members = {found.name: found for found in reader}
    assert set(members) == {DATA, COMPLETE, *(f"{DATA}/{name}" for name in ("empty", "run.sh", "link", "second", odd))}
    assert members[f"{DATA}/run.sh"].mode == 0o755
    assert members[f"{DATA}/link"].linkname == "run.sh"
    assert sum(found.islnk() for found in members.values()) == 1
    assert {(found.uid, found.uname) for found in members.values()} == {(0, "")}


def test_a_link_to_what_is_packed_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    data, _, _ = packed(tmp_path / "link")
    with tarfile.open(fileobj=io.BytesIO(data)) as reader:
        assert reader.getmember(DATA).isreg()


def test_a_socket_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("listener")
        _, count, left_out = packed(tmp_path)
    assert count == 1
    assert len(left_out) == 1 and "listener" in left_out[0]


def test_the_last_member_tells_that_nothing_is_missing(tmp_path: Path) -> None:
    data, _, _ = packed(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(data)) as reader:
        assert reader.getnames()[-1] == COMPLETE


def test_a_folder_is_unpacked_to_its_place(tmp_path: Path) -> None:
    data = archive(member(".", tarfile.DIRTYPE, mode=0o755), member("./a"), member("./run", mode=0o755))
    target = tmp_path / "0" / "out"
    assert unpack(answer(data), token="token", target=target) == (3, len(data), ())
    assert sorted(path.name for path in target.iterdir()) == ["a", "run"]
    assert stat.S_IMODE((target / "run").stat().st_mode) == 0o755
    assert [path.name for path in tmp_path.glob("0/*")] == ["out"]


def test_a_file_replaces_the_one_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("old")
    unpack(answer(archive(member("./model.pt")), "file"), token="token", target=tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_text() == "xxx"


def test_a_folder_is_merged_with_the_one_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "sub" / "kept").write_text("kept")
    (tmp_path / "out" / "sub" / "a").write_text("old")
    data = archive(member("./sub", tarfile.DIRTYPE, mode=0o755), member("./sub/a"), member("./new"))
    unpack(answer(data), token="token", target=tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "kept").read_text() == "kept"
    assert (tmp_path / "out" / "sub" / "a").read_text() == "xxx"
    assert (tmp_path / "out" / "new").read_text() == "xxx"


@pytest.mark.parametrize(
    "evil",
    [
        member("../outside"),
        member("sub/../../outside"),
        member("link", tarfile.SYMTYPE, link="../../outside"),
        member("link", tarfile.SYMTYPE, link="/etc/passwd"),
        member("hard", tarfile.LNKTYPE, link="../../outside"),
        member("device", tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name} {info.linkname}",
)
def test_what_would_leave_the_folder_is_left_out_and_named(evil: tarfile.TarInfo, tmp_path: Path) -> None:
    data = archive(member("./a"), evil, member("./b"))
    count, _, left_out = unpack(answer(data), token="token", target=tmp_path / "0" / "out")
    assert count == 2
    assert len(left_out) == 1 and evil.name in left_out[0]
    assert sorted(path.name for path in (tmp_path / "0" / "out").iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_an_absolute_name_stays_inside(tmp_path: Path) -> None:
    unpack(answer(archive(member("/etc/x"))), token="token", target=tmp_path / "out")
    assert (tmp_path / "out" / "etc" / "x").exists()


def test_a_link_can_not_be_written_through(tmp_path: Path) -> None:
    data = archive(member("./link", tarfile.SYMTYPE, link="../.."), member("./link/outside"))
    unpack(answer(data), token="token", target=tmp_path / "a" / "b" / "out")
    assert not list(tmp_path.rglob("outside")) or all("out" in path.parts for path in tmp_path.rglob("outside"))


def test_nothing_is_changed_by_an_archive_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    data = archive(member("./a"))
    with pytest.raises((tarfile.TarError, OSError)):
        unpack(answer(data[:514]), token="token", target=tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_answer_without_an_archive_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EOFError):
        unpack(io.BytesIO(b"Welcome!\n"), token="token", target=tmp_path / "out")
