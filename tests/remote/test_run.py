"""Commands on several hosts with real SSH servers."""

import asyncio
import io
import sys
import threading
import time
import uuid
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multicompute.errors import RunError, SpecError
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.output import LineOutput, PrefixedOutput, Stream
from tests.remote.hosts import Host, started

ANYTHING = (
    st.binary(max_size=30)
    .filter(lambda data: b"\0" not in data)
    .map(lambda data: data.decode("utf-8", "surrogateescape"))
)


def test_a_command_runs_on_all_nodes_at_once(nodes: RemoteNodes) -> None:
    start = time.monotonic()
    results = nodes.run("sleep 1; echo $NAME", env=lambda rank: {"NAME": f"node {rank}"})
    assert time.monotonic() - start < 2.8
    assert [(result.rank, result.returncode, result.stdout) for result in results] == [
        (0, 0, "node 0\n"),
        (1, 0, "node 1\n"),
        (2, 0, "node 2\n"),
    ]
    assert all(1 <= result.seconds < 3 for result in results)


def test_a_command_runs_on_the_ranks_that_are_named(nodes: RemoteNodes) -> None:
    assert [result.rank for result in nodes.run(["true"], ranks=[2, 0])] == [0, 2]


def test_no_rank_is_no_work(nodes: RemoteNodes) -> None:
    assert nodes.run("true", ranks=[]) == []


def test_a_rank_that_does_not_exist_is_refused(nodes: RemoteNodes) -> None:
    with pytest.raises(SpecError, match="no rank 7.*0 to 2"):
        nodes.run("true", ranks=[7])


def test_a_failed_rank_is_an_error_with_all_results(nodes: RemoteNodes) -> None:
    with pytest.raises(RunError) as caught:
        nodes.run("echo $R; test $R != 1 || { echo bad >&2; exit 3; }", env=lambda rank: {"R": str(rank)})
    assert caught.value.rank == 1
    assert [result.returncode for result in caught.value.results] == [0, 3, 0]
    assert "rank 1" in str(caught.value) and "exit status 3" in str(caught.value) and "bad" in str(caught.value)


def test_without_a_check_a_failed_rank_is_a_result(nodes: RemoteNodes) -> None:
    assert [result.returncode for result in nodes.run("exit 4", check=False)] == [4, 4, 4]


def test_a_failed_rank_does_not_end_the_others(nodes: RemoteNodes) -> None:
    results = nodes.run("test $R = 0 && exit 1; sleep 1; echo through", check=False, env=lambda rank: {"R": str(rank)})
    assert [result.stdout for result in results] == ["", "through\n", "through\n"]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(arguments=st.lists(ANYTHING, max_size=8))
def test_arguments_arrive_unchanged_over_ssh(nodes: RemoteNodes, arguments: list[str]) -> None:
    # As octal numbers: what is not UTF-8 is replaced in results.
    script = 'printf "%s\\0" "$@" | od -An -v -to1'
    (result,) = nodes.run(["sh", "-c", script, "sh", *arguments], ranks=[1])
    received = bytes(int(word, 8) for word in result.stdout.split())
    sent = [argument.encode("utf-8", "surrogateescape") for argument in arguments] or [b""]
    assert received == b"".join(part + b"\0" for part in sent)


def test_a_shell_line_is_run_by_bash_where_there_is_one(nodes: RemoteNodes) -> None:
    (result,) = nodes.run("[[ abc == a* ]] && echo ${BASH_VERSION:+bash}", ranks=[0])
    assert result.stdout == "bash\n"


def test_a_command_runs_in_its_folder_with_its_variables_and_input(nodes: RemoteNodes) -> None:
    nodes.run("mkdir -p 'a folder'")
    (result,) = nodes.run(
        "pwd; cat; echo $VALUE", cwd="~/a folder", env={"VALUE": "it's\n'$HOME'"}, input="typed\n", ranks=[0]
    )
    folder, rest = result.stdout.split("\n", 1)
    assert folder.endswith("/a folder")
    assert rest == "typed\nit's '$HOME'\n"


def test_large_input_reaches_every_node(nodes: RemoteNodes) -> None:
    data = bytes(range(256)) * 40_000
    results = nodes.run("wc -c; md5sum </dev/null", input=data)
    assert [result.stdout.split()[0] for result in results] == [str(len(data))] * 3


def test_input_is_not_left_on_the_nodes(nodes: RemoteNodes) -> None:
    # In no file of a checkout below /tmp, either.
    secret = uuid.uuid4().hex
    nodes.run(["cat"], input=secret * 100)
    assert [result.stdout for result in nodes.run(f"grep -rl {secret} /tmp 2>/dev/null; true")] == ["", "", ""]


def test_a_command_line_of_a_megabyte_is_run(nodes: RemoteNodes) -> None:
    (result,) = nodes.run(f"a='{'é' * 200_000}'; printf %s \"$a\" | wc -c", ranks=[0])
    assert result.stdout.strip() == "400000"


def test_output_that_is_not_utf_8_is_replaced_and_the_rest_arrives(nodes: RemoteNodes) -> None:
    (result,) = nodes.run(r"printf 'a\377b\n'; echo after; echo wrong >&2", ranks=[0])
    assert result.stdout == "a\N{REPLACEMENT CHARACTER}b\nafter\n"
    assert result.stderr == "wrong\n"


def test_output_is_streamed_while_the_command_runs(nodes: RemoteNodes) -> None:
    lines: list[tuple[float, int, Stream, str]] = []
    output = LineOutput(lambda rank, stream, line: lines.append((time.monotonic(), rank, stream, line)))
    nodes.run("echo first; sleep 1; echo second >&2", output=output, ranks=[0, 1])
    assert sorted(line[1:] for line in lines) == [
        (0, "stderr", "second"),
        (0, "stdout", "first"),
        (1, "stderr", "second"),
        (1, "stdout", "first"),
    ]
    assert max(line[0] for line in lines) - min(line[0] for line in lines) > 0.8


def test_every_line_has_its_rank_in_front(nodes: RemoteNodes) -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    nodes.run("echo out; echo err >&2", output=PrefixedOutput(stdout, stderr))
    assert sorted(stdout.getvalue().splitlines()) == ["[0] out", "[1] out", "[2] out"]
    assert sorted(stderr.getvalue().splitlines()) == ["[0] err", "[1] err", "[2] err"]


def test_much_output_arrives_complete_and_in_order(nodes: RemoteNodes) -> None:
    seen: dict[int, list[int]] = {}
    output = LineOutput(lambda rank, _, line: seen.setdefault(rank, []).append(int(line)))
    results = nodes.run(["seq", "200000"], output=output)
    assert seen == {rank: list(range(1, 200_001)) for rank in range(3)}
    assert all(result.stdout.endswith("\n200000\n") for result in results)


def test_of_very_much_output_results_have_the_end() -> None:
    from multicompute.remote._execution import Policy

    assert Policy().kept_bytes <= 64 * 2**20


def test_an_output_that_is_slow_ends_nothing(hosts: list[Host]) -> None:
    # Like a pager that waits for its user: the node must not take that for the client's death.
    with RemoteNodes([hosts[0].target()], silence=timedelta(seconds=2)) as nodes:
        is_first = True

        class Slow:
            def write(self, rank: int, stream: Stream, data: bytes) -> None:
                nonlocal is_first
                if is_first:
                    is_first = False
                    time.sleep(5)

            def flush(self) -> None:
                pass

            def close(self) -> None:
                pass

        (result,) = nodes.run("seq 3000000; sleep 3; echo end", output=Slow())
    assert result.stdout.endswith("\nend\n")


def test_an_output_that_fails_ends_the_command(nodes: RemoteNodes, hosts: list[Host]) -> None:
    def fail(rank: int, stream: Stream, line: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        nodes.run("echo x; sleep 7001", output=LineOutput(fail))
    assert not any("sleep 7001" in line for host in hosts for line in host.commands())


def test_it_works_inside_an_event_loop(nodes: RemoteNodes) -> None:
    async def notebook() -> list[str]:
        return [result.stdout for result in nodes.run("echo here")]

    assert asyncio.run(notebook()) == ["here\n"] * 3


def test_it_works_in_another_thread(nodes: RemoteNodes) -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(result.stdout for result in nodes.run("echo here")))
    thread.start()
    thread.join()
    assert found == ["here\n"] * 3


def test_a_background_process_that_keeps_stdout_does_not_hold_up_the_command(nodes: RemoteNodes) -> None:
    start = time.monotonic()
    results = nodes.run("sleep 20 & echo started")
    assert time.monotonic() - start < 10
    assert [result.stdout for result in results] == ["started\n"] * 3


def test_many_commands_may_run_one_after_another_on_the_same_connections(nodes: RemoteNodes) -> None:
    assert {result.returncode for _ in range(30) for result in nodes.run(["true"])} == {0}


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/usr/bin/tcsh"])
def test_the_login_shell_makes_no_difference(shell: str, hosts: list[Host]) -> None:
    from pathlib import Path

    if not Path(shell).exists():
        pytest.skip(f"{shell} is not installed")
    if not hosts[0].link:
        pytest.skip("hosts that share this machine have its login shell")
    with started(1, shell=shell) as (host,), RemoteNodes([host.target()]) as nodes:
        (result,) = nodes.run(["printf", "%s|", "a b", "$HOME!", "it's"], env={"A": "x"}, input="y")
    assert result.stdout == "a b|$HOME!|it's|"


def test_asyncssh_is_imported_only_when_something_runs() -> None:
    import subprocess

    code = "import multicompute.remote.nodes, multicompute.remote.launchers.ray, sys; print('asyncssh' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
