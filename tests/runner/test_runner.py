# SPDX-License-Identifier: GPL-2.0
"""Tests of the runner itself: nothing that goes wrong may look like a success. `scripts/test scripts` runs them."""

import threading
import time

import batch
import pytest
import suites
from batch import Batch, Ended, Program
from jobs import Job
from results import Result, cargo, ktap
from selection import Selection


def outcomes(results):
    return [(result.outcome, result.name) for result in results]


def test_ktap_cases():
    lines = ["TAP version 13", "1..3", "ok 1 first", "# a.c:7: x is 1", "# then", "not ok 2 - second # why", "ok 3 third # SKIP no device"]
    found = ktap(lines, "k/p", "log", [1.0, 2.0, 3.0])
    assert outcomes(found) == [("pass", "k/p/first"), ("fail", "k/p/second"), ("skip", "k/p/third")]
    assert found[2].reason == "no device" and found[1].seconds == 2.0
    assert found[1].reason == "a.c:7: x is 1; see log"


def test_ktap_plan_that_is_not_kept():
    assert outcomes(ktap(["1..2", "ok 1 first"], "k/p", "log")) == [("pass", "k/p/first"), ("fail", "k/p/plan")]


def test_cargo():
    lines = ["     Running tests/a.rs (target/debug/deps/a-0123)", "test b::c ... ok", "test d - should panic ... FAILED", "test e ... ignored, slow"]
    assert list(cargo(lines, "model", "log")) == [
        Result("pass", "model/a::b::c"),
        Result("fail", "model/a::d", "see log"),
        Result("skip", "model/a::e", "slow"),
    ]


@pytest.mark.parametrize(
    "test, name, wanted",
    [
        ("", "kselftest/a", True),
        ("kselftest/a", "kselftest/a", True),
        ("kselftest/a/case", "kselftest/a", True),
        ("kselftest/a/case", "kselftest/b", False),
        ("kselftest/*", "kselftest/b", True),
        ("case", "kselftest/b", True),
        ("boot/disk", "kselftest/a", False),
    ],
)
def test_which_programs_are_run(monkeypatch, tmp_path, test, name, wanted):
    monkeypatch.setenv("TEST", test)
    monkeypatch.delenv("RERUN", raising=False)
    selection = Selection(tmp_path / "failed")
    assert (selection.wants_suite("kselftest") and selection.wants_program(name)) == wanted


def test_what_failed_is_run_again(monkeypatch, tmp_path):
    monkeypatch.setenv("RERUN", "1")
    (tmp_path / "failed").write_text("machine/max,lpa2=off\nkselftest/a/case\n")
    selection = Selection(tmp_path / "failed")
    assert selection.wants("machine/max,lpa2=off") and not selection.wants("machine/max")
    assert selection.wants_program("kselftest/a") and not selection.wants_program("kselftest/b")
    assert selection.wants_suite("machine") and not selection.wants_suite("boot")


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Runs programs in a server that is a shell script: `$n` says how often it has been booted."""

    def run(script, names=("a", "b", "c")):
        (tmp_path / "scripts").mkdir()
        server = tmp_path / "scripts/server"
        server.write_text(f"#!/bin/bash\ncd {tmp_path}\necho >>boots\nn=$(wc -l <boots)\n{script}")
        server.chmod(0o755)
        monkeypatch.setattr(batch, "TOP", tmp_path)
        monkeypatch.setattr(batch, "CACHE", tmp_path)
        monkeypatch.setenv("BOOT_LIMIT", "2")
        batches = Batch(tmp_path / "logs", [Program(name, -28, "true") for name in names], "true", [])
        ended = [(one.name, one.status) for one in batches.results()]
        assert not list((tmp_path / "run").iterdir())
        return ended, tmp_path

    return run


def test_programs_end(serve):
    ended, path = serve('for p in a b c; do echo "@@begin 1 $p"; echo "said $p"; echo "@@end 0"; done')
    assert ended == [("a", "0"), ("b", "0"), ("c", "0")]
    assert (path / "logs/b.log").read_text() == "said b\n"


def test_a_crash_costs_only_the_program(serve):
    ended, path = serve('[ $n = 1 ] && { echo "@@begin 1 a"; exit 125; }; for p in b c; do echo "@@begin 1 $p"; echo "@@end 0"; done')
    assert ended == [("a", "crash"), ("b", "0"), ("c", "0")]


def test_a_hang_costs_only_the_program(serve):
    ended, _ = serve('[ $n = 1 ] && { echo "@@begin 1 a"; exec sleep 60; }; for p in b c; do echo "@@begin 1 $p"; echo "@@end 0"; done')
    assert ended == [("a", "crash"), ("b", "0"), ("c", "0")]


def test_a_server_that_never_comes_up_is_a_result(serve):
    ended, path = serve("exec sleep 60")
    assert ended == [("(start)", "crash")] and (path / "boots").read_text() == "\n\n"


def test_a_prelude_that_fails_ends_it(serve):
    ended, path = serve('echo "no device"; echo "@@prelude 1"; exit 99')
    assert ended == [("(start)", "1")]
    assert (path / "logs/(start).log").read_text() == "no device\n"


def test_a_complaint_boots_the_server_again(serve):
    ended, path = serve(
        'case $n in 1) echo "@@begin 1 a"; echo "@@dmesg BUG"; echo "@@end 0"; echo @@again;; '
        '*) for p in b c; do echo "@@begin 1 $p"; echo "@@end 1"; done;; esac'
    )
    assert ended == [("a", "0"), ("b", "1"), ("c", "1")]


@pytest.mark.parametrize(
    "status, log, wanted",
    [
        ("0", "1..1\nok 1 a\n", ["pass k/p/a"]),
        ("1", "1..1\nnot ok 1 a\n", ["fail k/p/a"]),
        ("1", "1..1\nok 1 a\n", ["pass k/p/a", "fail k/p"]),
        ("0", "", ["fail k/p"]),
        ("4", "1..1\nok 1 a # SKIP no\n", ["skip k/p/a"]),
        ("0", "1..2\nok 1 a\n", ["pass k/p/a", "fail k/p/plan"]),
        ("crash", "1..2\nok 1 a\n", ["pass k/p/a", "fail k/p/plan", "fail k/p"]),
        ("timeout", "1..1\nok 1 a\n", ["pass k/p/a", "fail k/p"]),
        ("0", "1..1\nok 1 a\n@@dmesg <4>BUG: no\n", ["pass k/p/a", "fail k/p/dmesg"]),
    ],
)
def test_results_of_a_kselftest(tmp_path, status, log, wanted):
    file = tmp_path / "p.log"
    file.write_text(log)
    suite = suites.Kselftest("kselftest", None)
    found = [*suite.judge("k/p", Ended("p", status), file), *suites.complaints(file, "k/p")]
    assert [f"{result.outcome} {result.name}" for result in found] == wanted


def test_a_program_without_a_result_has_failed(monkeypatch, tmp_path):
    suite = suites.Boot("boot", Selection(tmp_path / "failed"))
    suite.list = {"boot/a": Program("a", 1, "true")}
    lost = Batch(tmp_path, [], "true", [])
    suite.batches, suite.results = {"a": lost}, {lost: ({}, iter(()))}
    assert outcomes(suite.run("boot/a")) == [("fail", "boot/a")]


def test_what_is_interrupted_leaves_nothing(monkeypatch, tmp_path):
    (tmp_path / "scripts").mkdir()
    server = tmp_path / "scripts/server"
    server.write_text(f"#!/bin/bash\ntrap 'touch {tmp_path}/cleaned; exit 130' TERM\necho '@@begin 60 a'\nsleep 60 & wait $!\n")
    server.chmod(0o755)
    monkeypatch.setattr(batch, "TOP", tmp_path)
    monkeypatch.setattr(batch, "CACHE", tmp_path)
    monkeypatch.setattr(Job, "_closed", False)
    monkeypatch.setenv("JOBS", "1")
    one, other = (Batch(tmp_path / "logs", [Program("a", 60, "true"), Program("b", 60, "true")], "true", []) for _ in range(2))
    one.start()
    other.start()
    while not (tmp_path / "logs/a.log").exists():
        time.sleep(0.01)
    Batch.stop_all()
    assert (tmp_path / "cleaned").exists() and not list((tmp_path / "run").iterdir())
    late = Batch(tmp_path / "logs", [Program("a", 60, "true")], "true", [])
    assert [list(job.results()) for job in (one, other, late)] == [[], [], []]


def test_a_guest_has_no_less_than_on_kvm(tmp_path, monkeypatch):
    """But for what is named with a reason, and is so."""
    (tmp_path / "tests/parity").mkdir(parents=True)
    (tmp_path / "tests/parity/p").write_text("# what is so\nEL2 | guests have none\nSVE |\n")
    monkeypatch.setattr(suites, "TOP", tmp_path)
    monkeypatch.setattr(suites, "CPU", "max")
    suite = suites.Parity("parity", None)
    assert suite.differences("p", {"FP", "SVE"}, {"FP", "SVE", "EL2"}).startswith("this is not so any more: SVE")
    assert suite.differences("p", {"FP"}, {"FP", "SVE", "EL2"}) == "a guest of KVM's has more: SVE"
    assert suite.differences("p", set(), {"FP"}) == "nothing was found on loft"
    (tmp_path / "tests/parity/p").write_text("EL2 | guests have none\n")
    assert suite.differences("p", {"FP"}, {"FP", "EL2"}) is None


def test_batches_one_after_the_other(monkeypatch, tmp_path):
    served = []

    def one(self, work, programs):
        time.sleep(0.1 if programs[0].name == "a" else 0)
        served.append(programs[0].name)
        return [], False

    monkeypatch.setattr(batch, "CACHE", tmp_path)
    monkeypatch.setattr(Batch, "_serve", one)
    first, second = (Batch(tmp_path, [Program(name, 1, "true")], "true", []) for name in "ab")
    first.start()
    second.start(after=first)
    assert list(second.results()) == []
    assert served == ["a", "b"]


class Waits(Job):
    """Says when it runs, and goes on when it may."""

    running, order = [], []

    def __init__(self, name, fails=False):
        super().__init__()
        self.name, self.fails, self.may_end = name, fails, threading.Event()

    def work(self):
        Waits.order.append(self.name)
        Waits.running.append(self.name)
        self.tell(self.name)
        self.may_end.wait(10)
        Waits.running.remove(self.name)
        if self.fails:
            raise ValueError(self.name)


def test_jobs_have_places(monkeypatch):
    """So many run at a time, in the order in which they were started, whoever asks for their results first."""
    monkeypatch.setenv("JOBS", "2")
    monkeypatch.setattr(Waits, "running", [])
    monkeypatch.setattr(Waits, "order", [])
    jobs = [Waits(name) for name in "abcd"]
    for job in jobs:
        job.start()
    assert next(jobs[1].results()) == "b"
    time.sleep(0.1)
    assert sorted(Waits.running) == ["a", "b"]
    jobs[1].may_end.set()
    assert next(jobs[2].results()) == "c"
    for job in jobs:
        job.may_end.set()
    assert list(jobs[3].results()) == ["d"]
    assert sorted(Waits.order[:2]) + Waits.order[2:] == ["a", "b", "c", "d"]


def test_what_goes_wrong_in_a_job_is_seen(monkeypatch):
    job = Waits("a", fails=True)
    job.may_end.set()
    with pytest.raises(ValueError):
        list(job.results())


def test_commands_that_are_interrupted_leave_nothing(monkeypatch, tmp_path):
    class One(suites.Commands):
        def commands(self):
            return {"a": ()}

        def run_one(self, name):
            inner = f"trap 'touch {tmp_path}/cleaned; exit' TERM; touch {tmp_path}/begun; sleep 60 & wait"
            return str(self.call(["bash", "-c", f'bash -c "{inner}"; true']))

    suite = One("one", None)
    suite.prepare(suite.items())
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    suite.job.stop()
    suite.job.thread.join(10)
    assert (tmp_path / "cleaned").exists()


def test_nothing_is_built_twice(monkeypatch, tmp_path):
    """But for what could not be built."""
    (tmp_path / "scripts").mkdir()
    build = tmp_path / "scripts/build"
    build.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/built; [ ! -e {tmp_path}/broken ]\n')
    build.chmod(0o755)
    for name, value in {"TOP": tmp_path, "LOGS": tmp_path, "BUILT": set(), "HYP": "beside"}.items():
        monkeypatch.setattr(suites, name, value)
    (tmp_path / "broken").touch()
    assert outcomes(suites.built("one", "module", "userspace")) == [("fail", "one/build")]
    (tmp_path / "broken").unlink()
    assert [suites.built("two", *parts) for parts in (("module",), ("module", "userspace"), ("userspace",))] == [[], [], []]
    assert (tmp_path / "built").read_text() == "module userspace\nmodule\nuserspace\n"


def test_programs_in_servers(monkeypatch, tmp_path):
    class Two(suites.Served):
        servers = 2

        def programs(self):
            return [Program(name, 1, "true") for name in "abc"]

    monkeypatch.setenv("TEST", "")
    suite = Two("two", Selection(tmp_path / "failed"))
    suite.serve_in_turn(suite.programs(), "true", [])
    assert [[program.name for program in b.programs] for b in suite.results] == [["a", "c"], ["b"]]
    assert [[program.name for program in suite.batches[name].programs] for name in "abc"] == [["a", "c"], ["b"], ["a", "c"]]


def test_commands_are_a_job(monkeypatch, tmp_path):
    """Each has a result; what is left when it is ended has one, too."""

    class Three(suites.Commands):
        def commands(self):
            return {"a": (0,), "b": (1,), "c": (0,)}

        def run_one(self, name, status):
            if name == "c":
                self.job.stop()
            return None if self.call(["sh", "-c", f"exit {status}"])[0] == 0 else "it failed"

    suite = Three("three", None)
    items = [*suite.items(), "three/d"]
    assert suite.prepare(items) == []
    assert outcomes(result for item in items for result in suite.run(item)) == [
        ("pass", "three/a"),
        ("fail", "three/b"),
        ("pass", "three/c"),
        ("fail", "three/d"),
    ]


def test_each_part_has_its_own(monkeypatch, tmp_path):
    """What takes long is run in exactly one of the parts, and without parts."""
    for name, head in {"a": "# part: 1\n", "b": "# part: 3\n", "c": ""}.items():
        (tmp_path / f"{name}.sh").write_text(head)
    files = sorted(tmp_path.iterdir())
    run = {}
    for wanted in ("", "1", "2", "3"):
        monkeypatch.setenv("PART", wanted)
        run[wanted] = "".join(file.stem for file in suites.without_other_parts("boot", files))
    assert run == {"": "abc", "1": "ac", "2": "c", "3": "bc"}


def test_every_long_one_is_in_a_part():
    """A number that no part has would never be run."""
    files = [file for folder in ("boot", "vmm", "packages") for file in (suites.TOP / "tests" / folder).glob("*.sh")]
    tests = suites.KvmSelftests("kvm-selftests", None)
    machines = suites.Machine("machine", None)
    numbers = {suites.part_of_file(file) for file in files} | {tests.part_of(row) for row in tests.rows()}
    numbers |= {machines.part_of(machine) for machine in machines.MACHINES}
    assert numbers == {None, *range(1, suites.PARTS + 1)}


def test_each_kselftest_is_on_one_kernel(monkeypatch, tmp_path):
    """In a part: those that the debug kernel has are not on the other."""
    monkeypatch.setenv("TEST", "")
    suite = suites.Kselftest("kselftest", Selection(tmp_path / "failed"))

    def names(debug, part):
        monkeypatch.setattr(suites, "DEBUG", debug)
        monkeypatch.setattr(suites, "HYP", "alone")
        monkeypatch.setenv("PART", part)
        return {program.name for program in suite.programs()} - {"rmmod", "reload", "leaks"}

    checked = [names("1", str(number + 1)) for number in range(suites.PARTS)]
    assert set.union(*checked) == names("1", "") == names("", "") and sum(map(len, checked)) == len(names("", ""))
    assert all(names("", str(number + 1)) == names("", "") - programs for number, programs in enumerate(checked))
