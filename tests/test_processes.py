"""The one place that starts processes: exact words, exact environment, whole families ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from kernel_provisioner.errors import CommandFailed
from kernel_provisioner.system import processes
from tests.support.waiting import WITHIN, has_ended, wait_for

PYTHON = sys.executable


def test_a_finished_command_is_its_status_and_what_it_printed() -> None:
    """An exit status is for the caller; both streams are text, whatever bytes they held."""
    code = "import sys; print('out'); sys.stderr.buffer.write(b'caf\\xe9\\n'); sys.exit(3)"
    done = processes.run([PYTHON, "-c", code], env={})
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "caf\ufffd\n")


def test_words_are_never_seen_by_a_shell(tmp_path: Path) -> None:
    """Blanks, quotes and dollars arrive as they are."""
    words = ["a b", "'", '"', "$HOME", "; echo", "*", str(tmp_path)]
    code = "import sys; print(*sys.argv[1:], sep='\\n')"
    assert processes.run([PYTHON, "-c", code, *words], env={}).stdout.splitlines() == words


def test_a_child_gets_exactly_the_environment_it_is_given() -> None:
    """Nothing of ours, no input to wait for, and the root directory to stand in."""
    code = "import os, sys; print(sorted(os.environ), os.getcwd(), repr(sys.stdin.read()))"
    done = processes.run([PYTHON, "-I", "-c", code], env={"ONE": "1", "LC_CTYPE": "C.UTF-8"})
    assert done.stdout == "['LC_CTYPE', 'ONE'] / ''\n"


def test_each_line_is_heard_as_it_comes(tmp_path: Path) -> None:
    """Not at the end: the child goes on only once its first line was heard."""
    gate = tmp_path / "gate"
    heard: list[str] = []

    def on_line(line: str) -> None:
        heard.append(line)
        gate.touch()

    code = (
        "import os, sys, time\nprint('one', file=sys.stderr, flush=True)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('two', file=sys.stderr)"
    )
    done = processes.run([PYTHON, "-c", code], env={}, on_line=on_line, timeout=WITHIN)
    assert heard == ["one", "two"]
    assert done.stderr == "one\ntwo\n"


def test_much_output_on_both_streams_does_not_block() -> None:
    """More than a pipe holds, on both at once."""
    code = "import sys; [print('x' * 1000, file=f) for _ in range(1000) for f in (sys.stdout, sys.stderr)]"
    done = processes.run([PYTHON, "-c", code], env={}, timeout=WITHIN)
    assert (len(done.stdout), len(done.stderr)) == (1_001_000, 1_001_000)


def test_a_program_that_is_not_there_is_told() -> None:
    """With its name and the system's reason."""
    with pytest.raises(CommandFailed, match="/no/such/program could not be started") as caught:
        processes.run(["/no/such/program"], env={})
    assert "No such file" in caught.value.why


def test_check_raises_with_the_last_lines() -> None:
    """What went wrong stands at the end; standard error first, standard output where that is empty."""
    loud = processes.run([PYTHON, "-c", "for n in range(99): print(n)\nraise SystemExit(1)"], env={})
    with pytest.raises(CommandFailed, match="it broke") as caught:
        loud.check("it broke", fix="fix it")
    assert caught.value.why.splitlines() == [str(number) for number in range(79, 99)]
    assert caught.value.fix == "fix it"
    with pytest.raises(CommandFailed, match="silent") as silent:
        processes.run([PYTHON, "-c", "raise SystemExit(7)"], env={}).check("silent")
    assert "status 7" in silent.value.why
    assert processes.run([PYTHON, "-c", ""], env={}).check("fine").returncode == 0


def test_a_deadline_ends_the_whole_family(tmp_path: Path) -> None:
    """The child's own children too; the message says what was being waited for."""
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([{PYTHON!r}, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\nprint('waiting', file=sys.stderr, flush=True)\n"
        "time.sleep(600)"
    )
    with pytest.raises(CommandFailed, match="did not end within 2 seconds") as caught:
        processes.run([PYTHON, "-c", code], env={}, timeout=2)
    assert caught.value.why == "waiting"
    wait_for(lambda: has_ended(int(note.read_text())), "the grandchild has ended")


def test_an_interrupt_ends_the_whole_family(tmp_path: Path) -> None:
    """Ctrl-C reaches us alone, for the child has a process group of its own; nobody is left behind."""
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    run = f"processes.run([{PYTHON!r}, '-c', {child!r}], env={{}})"
    code = f"from kernel_provisioner.system import processes; {run}"
    parent = subprocess.Popen([PYTHON, "-c", code], cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL)
    wait_for(lambda: note.exists() and note.read_text(), "the child runs")
    parent.send_signal(signal.SIGINT)
    parent.wait(WITHIN)
    wait_for(lambda: has_ended(int(note.read_text())), "the child has ended")


@pytest.mark.fault(31)
def test_a_command_that_is_stopped_for_long_is_ended() -> None:
    """It would hold its caller for ever, and whoever waits for that one."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    with pytest.raises(processes.Frozen, match="stopped for 1 seconds") as caught:
        processes.run([sys.executable, "-c", code], env={}, patience=1.0)
    assert "SIGSTOP" in caught.value.why


def test_an_error_of_who_hears_the_lines_is_raised_once_the_command_has_ended() -> None:
    """The rest of what it prints is read all the same: a full pipe would hold it for ever."""
    heard = []

    def hear(line: str) -> None:
        heard.append(line)
        raise OSError(28, "no space left")

    code = "for number in range(100_000): print('line', number)"
    with pytest.raises(OSError, match="no space left"):
        processes.run([sys.executable, "-c", code], env={}, on_line=hear)
    assert heard == ["line 0"]


def test_a_command_does_not_outlive_who_ran_it(tmp_path: Path) -> None:
    """Killed, we can end nobody: a guard ends the whole family and itself. One that is done is gone."""
    note = tmp_path / "pids"
    child = (
        "import os, subprocess, sys, time\n"
        f"other = subprocess.Popen([{PYTHON!r}, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}} ')\ntime.sleep(600)"
    )
    code = (
        "from kernel_provisioner.system import processes\n"
        f"processes.run([{PYTHON!r}, '-c', ''], env={{}})\n"
        f"processes.run([{PYTHON!r}, '-c', {child!r}], env={{}})"
    )
    parent = subprocess.Popen([PYTHON, "-c", code], cwd=Path(__file__).parents[1])
    wait_for(lambda: note.exists() and note.read_text().endswith(" "), "the family is there")
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) == 3, "the child, its own, and one guard"
    parent.kill()
    parent.wait(WITHIN)
    wait_for(lambda: all(has_ended(one.pid) for one in family), "the family has ended")


def test_one_guard_is_enough_for_commands_that_run_at_once(tmp_path: Path) -> None:
    """It ends all of them where we are killed, and nobody whom we have seen to the end."""
    note = tmp_path / "pids"
    child = f"import os, time; open({str(note)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(600)"
    code = (
        "import threading\nfrom kernel_provisioner.system import processes\n"
        "with processes.guarded():\n"
        f"    processes.run([{PYTHON!r}, '-c', ''], env={{}})\n"
        f"    run = lambda: processes.run([{PYTHON!r}, '-c', {child!r}], env={{}})\n"
        "    threading.Thread(target=run, daemon=True).start()\n"
        "    run()"
    )
    parent = subprocess.Popen([PYTHON, "-c", code], cwd=Path(__file__).parents[1])
    wait_for(lambda: note.exists() and note.read_text().count(" ") == 2, "both run")
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) == 3, "two commands and one guard"
    parent.kill()
    parent.wait(WITHIN)
    wait_for(lambda: all(has_ended(one.pid) for one in family), "the family has ended")


def test_a_file_that_grows_over_its_limit_is_an_error_and_no_core_dump(tmp_path: Path) -> None:
    """The signal for it is ignored, in the child too, which is then told by the system."""
    large = tmp_path / "large"
    code = (
        "import resource; from kernel_provisioner.system import processes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        f"print(processes.run(['/bin/sh', '-c', 'cat /dev/zero > $0', {str(large)!r}], env={{}}))"
    )
    parent = subprocess.run(
        [PYTHON, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert "returncode=1" in parent.stdout
    assert "File too large" in parent.stdout


def test_a_descriptor_can_be_handed_on(tmp_path: Path) -> None:
    """That is how a lock passes to a child; all others stay closed."""
    with (tmp_path / "file").open("w") as given, (tmp_path / "other").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)  # as careless libraries do
        code = "import os, sys; print(*(int(fd) in map(int, os.listdir('/dev/fd')) for fd in sys.argv[1:]))"
        words = [PYTHON, "-c", code, str(given.fileno()), str(kept.fileno())]
        assert processes.run(words, env={}, pass_fds=[given.fileno()]).stdout == "True False\n"


def test_a_spawned_process_lives_by_itself_and_leaves_no_zombie(tmp_path: Path) -> None:
    """It leads its own group, writes into its log, and is reaped when it ends."""
    gate, log = tmp_path / "gate", tmp_path / "log"
    code = (
        "import os, time\nprint(os.getpgid(0) == os.getpid(), os.getcwd(), flush=True)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    )
    pid = processes.spawn([PYTHON, "-c", code], env={}, log=log)
    wait_for(lambda: log.exists() and log.read_text() == "True /\n", "it has started")
    assert any(thread.name == f"reap-{pid}" for thread in threading.enumerate())
    gate.touch()
    wait_for(lambda: not psutil.pid_exists(pid), "it has ended and was reaped")


def test_ending_a_group_that_is_gone_is_no_error() -> None:
    """It may have ended by itself a moment ago."""
    with subprocess.Popen([PYTHON, "-c", ""], start_new_session=True) as child:
        child.wait()
    processes.end_group(child.pid)


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "NETRC",
     "XDG_CACHE_HOME", "UV_CACHE_DIR", "UV_INDEX_CORP_PASSWORD", "PIP_INDEX_URL", "CUDA_HOME", "CC"],
)  # fmt: skip
def test_package_managers_see_how_to_reach_the_world(name: str) -> None:
    """Programs, files, certificates, proxies, indexes, compilers."""
    assert processes.inherited_environment({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    "name",
    ["JUPYTERHUB_API_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN", "JPY_API_TOKEN",
     "PYTHONPATH", "PYTHONSTARTUP", "LD_PRELOAD", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_CONSTRAINT",
     "UV_TORCH_BACKEND", "UV_PUBLISH_TOKEN", "UV_TARGET", "PIP_TARGET", "PIP_USER",
     "PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV"],
)  # fmt: skip
def test_package_managers_see_no_tokens_and_no_other_environment(name: str) -> None:
    """What could leak, or bind them to another place than the one we name."""
    assert processes.inherited_environment({name: "value"}) == {}
