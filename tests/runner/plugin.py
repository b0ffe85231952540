# SPDX-License-Identifier: GPL-2.0
"""The test runner, as a plugin of pytest: collects the suites, runs them, shows a line for each test.

An item of pytest's is a program; the tests that it reports, which nobody knows before, become reports of pytest's. So what
pytest has for those works: -k (of programs), -x, --junitxml, the exit code.
"""

import os
import pathlib
import signal
import sys
import threading
import time

import pytest
from jobs import Job
from results import Result
from selection import Selection
from suites import LEFT, LOGS, SUITES, say

FAILED = LOGS / "failed"
# What begins first: those that need nothing while the others are prepared, then what takes longest, so that no CPU is left to wait
# for the other at the end. The others follow in their order.
FIRST = ("model", "userspace", "kselftest", "vmm", "packages", "boot", "kvm-selftests")


def pytest_addoption(parser):
    """The suites, in the order in which they are run."""
    parser.addoption("--suites", default=",".join(SUITES))


class SuitesFile(pytest.File):
    """This file stands for all suites."""

    def collect(self):
        selection = Selection(FAILED)
        for name in self.config.getoption("--suites").split(","):
            suite = SUITES[name](name, selection)
            for item in suite.items() if selection.wants_suite(name) else []:
                yield ProgramItem.from_parent(self, name=item, nodeid=item, suite=suite, selection=selection)


class ProgramItem(pytest.Item):
    """What is run to have results."""

    def __init__(self, *, suite, selection, **words):
        super().__init__(**words)
        self.suite, self.selection = suite, selection

    def reportinfo(self):
        return self.path, None, self.name

    def runtest(self):
        """Is not called: see `Runner.pytest_runtest_protocol`."""
        raise NotImplementedError


def pytest_collect_file(file_path, parent):
    """Takes this file for the suites."""
    return SuitesFile.from_parent(parent, path=file_path) if file_path == pathlib.Path(__file__) else None


class Runner:
    """Has all suites prepared and run as jobs, in one order, and shows their results in another, in that of the items."""

    def __init__(self, session):
        self.session = session
        self.thread = None
        self.ending = False
        self.ready = {}  # a suite: set when it has been prepared
        self.failed = {}  # a suite: why it cannot be run
        self.told = set()

    def begin(self):
        """Has a thread prepare the suites, whose jobs begin as soon as there is a place for them."""
        items = {}
        for item in self.session.items:
            items.setdefault(item.suite, []).append(item.name)
        self.ready = {suite: threading.Event() for suite in items}
        order = sorted(items, key=lambda suite: FIRST.index(suite.name) if suite.name in FIRST else len(FIRST))

        def prepare():
            for suite in order:
                if not self.ending:
                    try:
                        self.failed[suite] = suite.prepare(items[suite])
                    # Of any kind: nobody would wait for less.
                    except Exception as error:  # pylint: disable=broad-exception-caught
                        self.failed[suite] = [Result("fail", f"{suite.name}/build", str(error) or repr(error))]
                    self.ready[suite].set()

        self.thread = threading.Thread(target=prepare, daemon=True)
        self.thread.start()

    def results(self, item):
        """Everything that an item has to tell."""
        if not self.thread:
            self.begin()
        self.ready[item.suite].wait()
        if failed := self.failed[item.suite]:
            yield from failed if item.suite not in self.told else []
            self.told.add(item.suite)
        else:
            yield from item.suite.run(item.name)

    @pytest.hookimpl
    def pytest_runtest_protocol(self, item, nextitem):
        """Makes a report of each result that is wanted."""
        for result in self.results(item):
            if not isinstance(result, Result):
                say(result)
            # A pattern is of tests; without what they are built of there are none.
            elif item.selection.wants(result.name) or result.name.endswith("/build"):
                head, _, tail = result.name.rpartition("/")
                longrepr = None if result.outcome == "pass" else result.reason
                report = pytest.TestReport(
                    nodeid=f"{head}::{tail}",
                    location=(head, None, result.name),
                    keywords={},
                    outcome={"pass": "passed", "fail": "failed", "skip": "skipped"}[result.outcome],
                    longrepr=(head, 0, result.reason) if result.outcome == "skip" else longrepr,
                    when="call",
                    duration=result.seconds or 0.0,
                )
                report.result = result
                item.ihook.pytest_runtest_logreport(report=report)
        return True

    @pytest.hookimpl
    def pytest_sessionfinish(self):
        """Leaves nothing behind, however the session ends."""
        self.ending = True
        Job.stop_all()
        for suite in self.ready:
            if hasattr(suite, "close"):
                suite.close()


class Reporter:
    """Shows a line for each test as it ends, and last `N passed, N failed, N skipped`."""

    WORDS = {"pass": "ok   ", "fail": "FAIL ", "skip": "skip "}

    def __init__(self):
        self.names = {"pass": [], "fail": [], "skip": []}
        self.reasons = {}
        self.slowest = []
        self.started = time.monotonic()

    def pytest_runtest_logreport(self, report):
        result = report.result
        self.names[result.outcome].append(result.name)
        self.reasons[result.name] = result.reason
        took = f" {result.seconds:.1f} s" if result.seconds is not None else ""
        if result.seconds:
            self.slowest.append((result.seconds, result.name))
        print(f"{self.WORDS[result.outcome]} {result.name}{f' ({result.reason})' if result.reason else ''}{took}", flush=True)

    def pytest_internalerror(self, excrepr):
        say(str(excrepr))

    def pytest_collectreport(self, report):
        if report.failed:
            say(str(report.longrepr))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session, exitstatus):
        say(f"loft: tests took {time.monotonic() - self.started:.0f} s")
        if slowest := [entry for entry in sorted(self.slowest, reverse=True) if entry[0] >= 10][:5]:
            say("loft: the longest: " + ", ".join(f"{name} {seconds:.0f} s" for seconds, name in slowest))
        if self.names["fail"]:
            print("\nfailed (RERUN=1 runs these again):")
            print("\n".join(f"  {name} ({self.reasons[name]})" for name in self.names["fail"]))
        if not os.environ.get("RERUN") or sum(map(len, self.names.values())):
            FAILED.write_text("".join(f"{name}\n" for name in self.names["fail"]))
        if exitstatus == pytest.ExitCode.INTERRUPTED:
            print("interrupted")
        elif not sum(map(len, self.names.values())) and any(map(Selection(FAILED).wants, LEFT)):
            say("loft: what matches is in other parts")
            session.exitstatus = 0
        elif not sum(map(len, self.names.values())):
            say(f"loft: no test matches TEST={os.environ.get('TEST', '')}{' (RERUN=1: none failed)' if os.environ.get('RERUN') else ''}")
            session.exitstatus = 1
        print(f"{len(self.names['pass'])} passed, {len(self.names['fail'])} failed, {len(self.names['skip'])} skipped", flush=True)


def pytest_configure(config):
    """Has a request to end treated as an interrupt from the terminal."""
    config.pluginmanager.register(Reporter())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def pytest_sessionstart(session):
    """Hands the session to who runs it."""
    LOGS.mkdir(parents=True, exist_ok=True)
    sys.stdout.reconfigure(line_buffering=True)
    session.config.pluginmanager.register(Runner(session))
