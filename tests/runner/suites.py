# SPDX-License-Identifier: GPL-2.0
"""The suites: what each runs, where, and how it tells its results. `scripts/test` says what they are for."""

import contextlib
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from batch import CACHE, TOP, Batch, Program
from jobs import Job
from results import Result, cargo, failures_said, ktap

OUT = TOP / "out"
LOGS = OUT / "log"
DEBUG, LONG, TEST = (os.environ.get(name, "") for name in ("DEBUG", "LONG", "TEST"))
# On loft beside the server's KVM, as it is on users' servers; on the kernels that look for mistakes alone, so that both are seen.
HYP = os.environ.get("HYP") or ("alone" if DEBUG else "beside")
KERNEL = os.environ.get("KERNEL") or "7.2"
DEVICE = "/dev/kvm" if HYP == "kvm" else "/dev/loft"
# LPA2 makes the emulator slow, and the debug kernel's checks are slow enough.
CPU = os.environ.get("CPU") or ("max,lpa2=off" if DEBUG else "max")
SLOW = 8 if DEBUG else 1
# What takes long is in one of these parts: .ci/run runs one, another one with each commit.
PARTS = 6


# What is left to the other parts.
LEFT = set()


def say(text):
    """A message that is no result."""
    print(text, file=sys.stderr, flush=True)


def shown(path):
    """A path as a user has it."""
    return str(path.relative_to(TOP)) if path.is_relative_to(TOP) else str(path)


def part():
    """The part that is run of what takes long, counted from 0, if not all is: PART is its number, or `commit` chooses."""
    wanted = os.environ.get("PART", "")
    if not wanted:
        return None
    if wanted != "commit":
        return (int(wanted) - 1) % PARTS
    count = subprocess.run(["git", "-C", TOP, "rev-list", "--count", "HEAD"], stdout=subprocess.PIPE, text=True).stdout.strip()
    # Without git's history: all.
    return int(count) % PARTS if count else None


def of_part(rows):
    """Those of `rows` that are in the part that is run."""
    return rows if (number := part()) is None else rows[number::PARTS]


def part_of_file(file):
    """The part that a program is in, if it takes long: its head says `# part: N`."""
    match = re.search(r"^# part: (\d+)", file.read_text(), re.M)
    return int(match[1]) if match else None


def without_other_parts(suite, rows, part_of=part_of_file, name=lambda file: file.stem):
    """Those of `rows` that are run: not what is in a part that is not."""
    if (number := part()) is None:
        return rows
    if others := [row for row in rows if part_of(row) not in (None, number + 1)]:
        LEFT.update(f"{suite}/{name(row)}" for row in others)
        say(f"loft: part {number + 1} of {PARTS} of {suite}: left to the others: {' '.join(map(name, others))}")
    return [row for row in rows if row not in others]


def script(*words):
    """What a script prints; its progress goes to the terminal."""
    return subprocess.run([TOP / "scripts" / words[0], *words[1:]], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def table(path):
    """The words of each line of a list, without comments."""
    lines = (line.partition("#")[0].split() for line in path.read_text().splitlines())
    return [words for words in lines if words]


def seconds_of(path, usual):
    """What a program's head says of its time: `# seconds: N`."""
    match = re.search(r"^# seconds: (\d+)", path.read_text(), re.M)
    return int(match[1]) if match else usual


# What has been built. Once is enough, and is not for nothing: the kernel's build system compiles a module each time.
BUILT = set()


def built(suite, *parts):
    """Builds what has not been built yet; a failure is a result."""
    parts = [part for part in parts if (part != "module" or HYP != "kvm") and part not in BUILT]
    log = LOGS / f"{suite}.build.log"
    with open(log, "w") as out:
        if not parts or subprocess.call([TOP / "scripts/build", *parts], stdout=out, stderr=subprocess.STDOUT) == 0:
            BUILT.update(parts)
            return []
    text = log.read_text(errors="replace")
    found = re.findall(r"^(?:error|.*Error ).*(?:\n.*){0,4}", text, re.M)
    say("\n".join(found[:5]) if found else "\n".join(text.splitlines()[-20:]))
    return [Result("fail", f"{suite}/build", f"see {shown(log)}")]


def complaints(log, name):
    """The host kernel's messages during a test are a failure of their own."""
    text = log.read_text(errors="replace") if log.exists() else ""
    if not (said := re.findall(r"^@@dmesg.*", text, re.M)):
        return []
    if DEBUG:
        command = [TOP / "scripts/enter", "scripts/inside/symbolise", f"out/{KERNEL}/build/loft.ko"]
        done = subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE)
        if done.returncode == 0:
            log.write_bytes(done.stdout)
            text = done.stdout.decode(errors="replace")
        telling = r"^@@dmesg.*(?:BUG|WARNING|INFO|UBSAN|unreferenced)"
        said = re.findall(telling + ".*", text, re.M) or said
        # The whole story, without what else the kernel had to say before it.
        start = re.search(r"^@@dmesg.*(?:=====|cut here|BUG|WARNING|INFO|UBSAN|unreferenced)", text, re.M)
        story = re.findall(r"^(?:@@dmesg (?:<\d+>)?(.*)|( +in .*))", text[start.start() :] if start else "", re.M)
        return [Result("fail", f"{name}/dmesg", said[0][8:140]), "\n".join("      " + (a or b) for a, b in story[:250])]
    return [Result("fail", f"{name}/dmesg", said[0][8:140])]


class Suite:
    """A suite of tests. `items` are what is run, a name each, `parts` is what has to be built before."""

    parts = ()

    def __init__(self, name, selection):
        self.name, self.selection = name, selection

    def items(self):
        """The names of what is run, as SUITE/NAME."""
        raise NotImplementedError

    def prepare(self, items):
        """Makes what the items need. Returns results, of which any is a failure that ends the suite."""
        return built(self.name, *self.parts) if self.parts else []

    def run(self, item):
        """Yields an item's results; text among them is for the reader."""
        raise NotImplementedError


class Direct(Suite):
    """What is run on this machine itself: all of it is one job."""

    class Work(Job):
        """Tells pairs of an item and a result, and the item alone when it has ended."""

        def __init__(self, suite, items):
            super().__init__()
            self.suite, self.items, self.processes = suite, items, []

        def work(self):
            for item in self.items:
                if not self.stopped:
                    for result in self.suite.run_item(item):
                        self.tell((item, result))
                    self.tell((item, None))

        def stop(self):
            super().stop()
            for process in self.processes:
                # It may be about to end by itself.
                with contextlib.suppress(ProcessLookupError):
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGTERM)

    def prepare(self, items):
        self.job = self.Work(self, items)
        self.coming = self.job.results()
        if failed := super().prepare(items):
            return failed
        self.job.start()
        return []

    def process(self, command, **more):
        """Starts a process of the job's, which is ended with it, and with all that it has started."""
        more |= {"text": True, "errors": "replace", "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "start_new_session": True}
        process = subprocess.Popen(command, **more)
        self.job.processes = [process]
        return process

    def run(self, item):
        for about, result in self.coming:
            if (about, result) == (item, None):
                return
            yield result
        yield Result("fail", item, "it was not run")

    def run_item(self, item):
        """Yields an item's results; text among them is for the reader."""
        raise NotImplementedError


class Cargo(Direct):
    """The tests of a Cargo package or workspace, run on this machine's own architecture."""

    def __init__(self, name, selection, folder):
        super().__init__(name, selection)
        self.folder = folder

    def items(self):
        return [f"{self.name}/cargo"]

    def run_item(self, item):
        log = LOGS / f"{self.name}.log"
        any_ran = any_failed = False
        # All crates are tested even where one fails.
        command = [TOP / "scripts/enter", "env", "CARGO_TERM_COLOR=never", "scripts/inside/cargo", self.folder, "test"]
        command += ["--locked", "--workspace", "--no-fail-fast"]
        with open(log, "w") as out, self.process(command, stderr=subprocess.STDOUT) as process:

            def lines():
                for line in process.stdout:
                    out.write(line)
                    yield line.rstrip("\n")

            for result in cargo(lines(), self.name, shown(log)):
                any_ran = True
                any_failed |= result.outcome == "fail"
                yield result
            status = process.wait()
        text = log.read_text(errors="replace")
        if any_failed:
            yield failures_said(text)
        # A failure that no test accounts for: the build, a crash of the test program, or nothing to run at all.
        elif status or not any_ran:
            found = re.findall(r"^(?:error|.*panicked at).*(?:\n.*){0,8}", text, re.M)
            yield "\n".join(found[:5]) if found else "\n".join(text.splitlines()[-20:])
            yield Result("fail", f"{self.name}/build", f"cargo test ended with status {status}; see {shown(log)}")


class Commands(Direct):
    """Scripts as a user calls them: what they print, and how they end."""

    def items(self):
        return [f"{self.name}/{name}" for name in self.commands()]

    def commands(self):
        """Name: what run_one is called with."""
        raise NotImplementedError

    def run_one(self, name, *words):
        """Runs one, and returns what is wrong, if anything is."""
        raise NotImplementedError

    def run_item(self, item):
        started = time.monotonic()
        fault = self.run_one(item.partition("/")[2], *self.commands()[item.partition("/")[2]])
        yield Result("fail" if fault else "pass", item, fault or "", time.monotonic() - started)

    def call(self, command, seconds=None, **more):
        """Runs a command: its exit code, what it said, and that with errors. TimeoutExpired after so many seconds."""
        with self.process(command, stderr=subprocess.PIPE, **more) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, out, err


class Scripts(Commands):
    """What the scripts refuse has to be refused before anything is built, downloaded or booted."""

    def commands(self):
        nonsense = "qz" + "xyqz"
        return {
            "no_such_test": ("no test matches", "test", {"TEST": nonsense}),
            "no_such_suite": ("no test suite", "test", {}, nonsense),
            "no_such_guest": ("no guest kernel '5.10'", "run", {"GUEST": "5.10", "CMD": "true"}),
            "no_such_kernel": ("not '5.10'", "build", {"KERNEL": "5.10"}, "module"),
            "runner": (),
        }

    def run_one(self, test, *words):
        return self.refuses(*words) if words else self.own_tests()

    def own_tests(self):
        """The runner's own tests."""
        status, out, err = self.call(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", TOP / "tests/runner/pytest.ini", TOP / "tests/runner/test_runner.py"],
            env={name: value for name, value in os.environ.items() if name not in ("TEST", "RERUN", "DEBUG", "PART", "BOOT_LIMIT", "JOBS")},
        )
        (LOGS / "scripts.runner.log").write_text(out + err)
        return f"see {shown(LOGS / 'scripts.runner.log')}" if status else None

    def refuses(self, message, name, variables, *words):
        try:
            status, out, err = self.call([TOP / "scripts" / name, *words], 10, env={**os.environ, "TEST": "", **variables})
        except subprocess.TimeoutExpired:
            return f"scripts/{name} did not refuse this within 10 s"
        said = out + err
        if status == 0:
            return f"scripts/{name} did not fail"
        return None if message in said else f"scripts/{name} said '{said.strip()}', not '{message}'"


class Server(Commands):
    """The emulated server itself: a crash or a hang of it must never look like a success."""

    def commands(self):
        # What it prints, its exit code, and its arguments.
        return {
            # 125 is also what tells that the server has died, which a message must not claim here.
            "exit_code": ("out", 125, "--", "echo out; echo err >&2; exit 125"),
            "panic": ("", 125, "--", "echo c >/proc/sysrq-trigger; sleep 60"),
            "timeout": ("", 124, "--timeout", "2", "--", "sleep 600"),
            "el2_vhe": ("EL2", 0, "--", "dmesg | grep -q 'CPU: All CPU(s) started at EL2' && [ ! -e /dev/kvm ] && echo EL2"),
            "kvm": ("kvm", 0, "--kvm", "--", "test -c /dev/kvm && echo kvm"),
        }

    def run_one(self, name, printed, status, *words):
        ended, out, err = self.call([TOP / "scripts/server", "--log", LOGS / f"server.{name}.log", *words])
        (LOGS / f"server.{name}.err").write_text(err)
        if name == "exit_code" and "the server died" in err:
            return "it is said to have died"
        if (ended, out.strip()) == (status, printed):
            return None
        return f"exit code {ended} for {status}; printed '{out.strip()}' for '{printed}'"


class Bench(Commands):
    """A benchmark that takes too long to be run whole: that it runs, and makes its tables."""

    parts = ("module", "userspace", "apps")
    # What makes it long is that there are five servers.
    PART = 6

    def commands(self):
        if HYP == "kvm" or part() not in (None, self.PART - 1):
            return {}
        return {"apps": ("ONLY", self.compared), "explain": ("EXPLAIN", self.explained)}

    def run_one(self, name, variable, fault):
        log = LOGS / f"{self.name}.{name}.log"
        mine = {key: value for key, value in os.environ.items() if key not in ("BARS", "ONLY", "EXPLAIN")}
        status, out, err = self.call([TOP / "scripts/bench-apps"], env={**mine, "PREBUILT": "1", variable: "fork"})
        log.write_text(out + err)
        said = f"exit code {status}" if status else fault(out)
        return said and f"{said}; see {shown(log)}"

    def compared(self, out):
        """What is wrong with the table of a workload's sums."""
        figures = r"( +[\d,.]+ ± *[\d.]+%){3}( +[\d.]+){3}"
        return None if re.search(rf"^fork{figures}$", out, re.M) else "no row with all sides"

    def explained(self, out):
        """What is wrong with the tables of where the instructions are."""
        rows = re.findall(r"^((?:host|guest) (?:kernel|user)|all) +([\d,]+) +([\d,]+) +[-+]", out, re.M)
        if [name for name, *_ in rows] != ["host kernel", "host user", "guest kernel", "guest user", "all"]:
            return "not whose all of it is"
        for side in zip(*([int(figure.replace(",", "")) for figure in figures] for _, *figures in rows)):
            # Each is rounded.
            if abs(sum(side[:4]) - side[4]) > 4:
                return "the sum is not that of its parts"
            if not side[0] or not side[2]:
                return "a kernel that executes nothing"
        return None if re.search(r"^WFI( +[\d,.]+){6} +[-+]", out, re.M) else "no exits for a WFI on both sides"


class Run(Commands):
    """scripts/run, which boots a server and a guest in it: the guest's exit codes are its own, loft's errors are shown as such,
    and the server has the CPUs and the memory for the guest."""

    def commands(self):
        # Its exit code, what has to be in its output and in its messages, and its environment.
        return {
            "exit_code": (3, r"^3 cpus, 2[34]\d\d MiB$", "", {"CMD": self.SIZE, "CPUS": "3", "MEM": "2500M"}),
            "loft_s_error": (125, "", r"^loft: .*give at least -m", {"CMD": "true", "MEM": "65M"}),
            "terminal": (),
        }

    parts = ("module", "userspace")
    # A command that tells how large its guest is, and ends with 3.
    SIZE = r"""awk -v n=$(nproc) '$1 == "MemTotal:" { print n " cpus, " int($2 / 1024) " MiB"; exit 3 }' /proc/meminfo"""

    def run_one(self, name, *words):
        return self.ends(name, *words) if words else self.is_left(name)

    def environment(self, more):
        """This program's own without what scripts/run goes by, and `more`."""
        mine = {key: value for key, value in os.environ.items() if key not in ("CMD", "CPUS", "MEM", "HOST", "GUEST", "TIMEOUT")}
        return {**mine, "HYP": "kvm" if HYP == "kvm" else "loft", "PREBUILT": "1", **more}

    def ends(self, name, status, printed, said, more):
        ended, out, err = self.call([TOP / "scripts/run"], env=self.environment(more))
        (LOGS / f"run.{name}.log").write_text(out + err)
        if "the server died" in err:
            return "the server is said to have died"
        if ended != status:
            return f"exit code {ended} for {status}; see {shown(LOGS / f'run.{name}.log')}"
        if not re.search(printed, out, re.M) or not re.search(said, err, re.M):
            return f"no '{printed or said}'; see {shown(LOGS / f'run.{name}.log')}"
        return None

    def is_left(self, name):
        """On a terminal: it says first of all what it does, has the guest's shell, and Ctrl-a x is no error."""
        log, text, started = LOGS / f"run.{name}.log", "", time.monotonic()
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(TOP / "scripts/run", ["run"], self.environment({"TERM": "vt100"}))
        while time.monotonic() < started + 300 and not self.job.stopped:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                more = os.read(terminal, 4096).decode(errors="replace")
            except OSError:
                break
            if "This is Linux" in text + more and "This is Linux" not in text:
                os.write(terminal, b"\x01x")
            text += more
        else:
            # It is a session of its own, with all that it has started.
            os.killpg(pid, signal.SIGKILL)
        os.close(terminal)
        log.write_text(text)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if "This is Linux" not in text:
            return f"there is no shell; see {shown(log)}"
        if status != 0:
            return f"exit code {status} after Ctrl-a x; see {shown(log)}"
        # What takes long comes after a line that says so: time itself is another machine's.
        return None if text.startswith("loft: ") else f"what is seen first is not what it does; see {shown(log)}"


class Served(Suite):
    """Programs in emulated servers."""

    parts = ("module",)
    # So many servers have its programs, in turn.
    servers = 1
    # Whether KVM is on there.
    kvm = HYP != "alone"

    def __init__(self, name, selection):
        super().__init__(name, selection)
        self.work = pathlib.Path()
        self.batches = {}  # a program's name: the batch that it is in
        self.results = {}  # a batch: its results so far, and the iterator of those to come

    def programs(self):
        """The programs, in the order in which they are run."""
        raise NotImplementedError

    def items(self):
        self.list = {f"{self.name}/{p.name}": p for p in self.programs() if self.selection.wants(f"{self.name}/{p.name}")}
        return list(self.list)

    def prepare(self, items):
        if failed := super().prepare(items):
            return failed
        (CACHE / "run").mkdir(parents=True, exist_ok=True)
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="test.", dir=CACHE / "run"))
        shutil.rmtree(LOGS / self.name, ignore_errors=True)
        self.boot([self.list[item] for item in items])
        self.begin()
        return []

    def begin(self):
        """Has the servers booted, each when its turn has come."""
        for batch in self.results:
            batch.start()

    def boot(self, programs):
        """Puts the programs into servers."""
        raise NotImplementedError

    def serve_in_turn(self, programs, prelude, options):
        """Puts programs into as many servers as there are, in turn."""
        servers = min(self.servers, len(programs))
        for n in range(servers):
            self.serve(programs[n::servers], prelude, options)

    def serve(self, programs, prelude, options, logs=None):
        """Puts programs into one server."""
        batch = Batch(logs or LOGS / self.name, programs, prelude, options)
        self.batches.update({program.name: batch for program in programs})
        self.results[batch] = ({}, batch.results())
        return batch

    def hypervisor(self):
        """What a server needs for its hypervisor: the prelude, and options."""
        options = ["--cpu", CPU]
        # All of KASAN's reports, not only the first; and who has allocated what (tests/kselftest/lib/held.h).
        if DEBUG:
            options += ["--append", "kasan_multi_shot slab_debug=U"]
        # Only loft is checked, so that it can be checked ten times as often; and what it reads under a kernel's lock must
        # not be taken to be read after it, since the barriers in there are not seen.
        if DEBUG == "kcsan":
            options += ["--append", "kcsan.skip_watch=400 kcsan.weak_memory=0"]
        if self.kvm:
            options.append("--kvm")
        if HYP == "kvm":
            return "[ -e /dev/kvm ]", options
        return "insmod /loft.ko && [ -e /dev/loft ]", [*options, "--file", f"{OUT}/{KERNEL}/loft.ko=/loft.ko"]

    def with_guests(self, *guests):
        """The same with what the programs in tests/boot need, and those guest kernels."""
        prelude, options = self.hypervisor()
        options += ["--mem", "3G", "--smp", "4", "--file", f"{OUT}/loft=/bin/loft", "--file", f"{TOP}/tests/boot=/boot"]
        for module in ("tun", "vhost_net", "vhost_vsock"):
            options += ["--module", module]
        for guest in guests:
            files = script("guest", guest)
            options += ["--file", f"{files}/Image=/guest/{guest}/Image", "--file", f"{files}/modules=/guest/{guest}/modules"]
        options += ["--file", f"{files}/disk.img=/guest/disk.img"]
        return f"{prelude} && . /boot/prepare", options

    def run(self, item):
        program = self.list[item]
        batch = self.batches[program.name]
        ended, coming = self.results[batch]
        while program.name not in ended:
            more = next(coming, None)
            if more is None:
                # Whatever the reason: a program that has no result has failed, nothing gets lost.
                start = batch.log_of("(start)")
                yield Result("fail", item, "it was not run" + (f"; see {shown(start)}" if start.exists() else ""))
                return
            ended[more.name] = more
        log = batch.log_of(program.name)
        yield from self.judge(item, ended[program.name], log)
        yield from complaints(log, item)

    def judge(self, item, ended, log):
        """The results of a program: its exit code, and what it said last."""
        if ended.status == "0":
            yield Result("pass", item, "", ended.seconds)
        else:
            text = log.read_text(errors="replace") if log.exists() else ""
            said = [line for line in text.splitlines() if line.strip() and not line.startswith("@@")]
            last = f"{said[-1].strip()[:160]}; " if said else ""
            yield Result("fail", item, f"{ended.status}; {last}see {shown(log)}", ended.seconds)

    def close(self):
        """Removes what was made for the servers."""
        if self.work != pathlib.Path():
            shutil.rmtree(self.work, ignore_errors=True)


class Kselftest(Served):
    """Programs against the ioctls, which report in KTAP."""

    parts = ("module", "kselftest")
    # What nothing points to is looked for twice, since it counts only when it has not changed for a while.
    LEAKS = r"""
for i in 1 2; do
    sleep 6
    echo scan >/sys/kernel/debug/kmemleak
done
sed 's/^/@@dmesg <4>/' /sys/kernel/debug/kmemleak
! grep -q . /sys/kernel/debug/kmemleak
"""

    def programs(self):
        long = "LOFT_LONG=1 " if LONG else ""
        rows = [words[:2] for words in table(TOP / "tests/kselftest/list")]
        if (number := part()) is not None:
            checked = of_part(rows)
            say(f"loft: part {number + 1} of {PARTS} of the kselftests: on the debug kernel: {' '.join(name for name, _ in checked)}")
            # The others are run on the kernel that users have.
            rows = checked if DEBUG else [row for row in rows if row not in checked]
        for name, seconds in rows:
            if name in ("beside_kvm", "migrate_kvm") and (HYP != "beside" or not DEBUG):
                continue  # machine/beside_kvm runs them
            if self.selection.wants_program(f"{self.name}/{name}"):
                yield Program(name, int(seconds) * SLOW, f"LOFT_SLOW={SLOW} {long}/kselftest/{name} {DEVICE}")
        if HYP != "kvm":
            for program in self.whole_module():
                if self.selection.wants(f"{self.name}/{program.name}"):
                    yield program

    def whole_module(self):
        """Loading and unloading."""
        times = 100 if LONG else 100 // SLOW
        # Where it was, for the names of what it lost.
        rmmod = 'echo "@@text $(cat /sys/module/loft/sections/.text)" >>/tmp/text; rmmod loft'
        gone = f"[ ! -e /sys/module/loft ] || {{ {rmmod}; }}"
        yield Program("rmmod", 20 * SLOW, f"{rmmod} && test ! -e /dev/loft")
        # Once in all parts.
        if not DEBUG or part() in (None, PARTS - 1):
            cycle = f"insmod /loft.ko && /kselftest/hello {DEVICE} >/tmp/hello && {{ {rmmod}; }}"
            yield Program(
                "reload", 100 * SLOW, f"{gone}; n=0; while [ $n -lt {times} ]; do {cycle} || exit 1; n=$((n + 1)); done"
            )
        # When it is gone: what was lost before is lost now, and what only the module knew.
        if DEBUG == "1":
            yield Program("leaks", 600, f"{gone}; cat /tmp/text; sh /kselftest/leaks")

    def items(self):
        # A pattern may be of cases only, whose names nobody knows before.
        self.list = {f"{self.name}/{program.name}": program for program in self.programs()}
        return list(self.list)

    def boot(self, programs):
        # What the programs need is small; the headers and objects beside them are not sent along.
        (self.work / "programs").mkdir()
        for name in {program.name for program in programs} | {"hello"}:
            if (OUT / "kselftest" / name).exists():
                shutil.copy2(OUT / "kselftest" / name, self.work / "programs")
        (self.work / "programs/leaks").write_text(self.LEAKS)
        prelude, options = self.hypervisor()
        if any(program.name == "memory_kinds" for program in programs):
            # A page of 1 GiB can be had only while the kernel boots.
            options = [*options, "--mem", "3G", "--append", "hugepagesz=1G hugepages=1"]
        self.serve(programs, prelude, [*options, "--file", f"{self.work}/programs=/kselftest", "--smp", "4"])

    def judge(self, item, ended, log):
        cases = ktap(log.read_text(errors="replace").splitlines() if log.exists() else [], item, shown(log), ended.steps)
        yield from cases
        if ended.status == "0" and ended.name in ("rmmod", "reload", "leaks"):
            yield Result("pass", item, "", ended.seconds)
        elif ended.status not in ("0", "1", "4"):
            yield Result("fail", item, f"{ended.status}; see {shown(log)}", ended.seconds)
        elif not cases or (ended.status == "1" and not any(case.outcome == "fail" for case in cases)):
            yield Result("fail", item, f"exit code {ended.status}; see {shown(log)}", ended.seconds)


class Cost(Served):
    """The cost of an exit in instructions, which one instruction a nanosecond makes the same on every machine."""

    parts = ("module", "kselftest")

    def programs(self):
        return [Program("hypercall", 120, f"LOFT_MAX_COST=120 /kselftest/hypercall_cost {DEVICE}")]

    def items(self):
        self.list = {f"{self.name}/{program.name}": program for program in self.programs()}
        return [item for item in self.list if self.selection.wants(f"{item}/with_vgic") or self.selection.wants(f"{item}/without_vgic")]

    def boot(self, programs):
        prelude, options = self.hypervisor()
        program = f"{OUT}/kselftest/hypercall_cost=/kselftest/hypercall_cost"
        self.serve(programs, prelude, [*options, "--cpu", "max", "--icount", "--file", program])

    def judge(self, item, ended, log):
        cases = ktap(log.read_text(errors="replace").splitlines() if log.exists() else [], item, shown(log), ended.steps)
        yield from cases
        if ended.status not in ("0", "1") or not cases:
            yield Result("fail", item, f"{ended.status}; see {shown(log)}", ended.seconds)


class Boot(Served):
    """Programs in tests/boot, each with the launcher, a guest and the module at hand; exit code 4 is a skip."""

    parts = ("module", "userspace")
    servers = 1 if DEBUG else 2

    def programs(self):
        files = sorted((TOP / "tests/boot").glob("*.sh"))
        # The other tests of the launcher take long on a kernel that checks itself, and do nothing else to the module.
        if DEBUG and not LONG and not TEST:
            files = [file for file in files if file.stem in ("debian_7_2", "unload")]
        for file in of_part(files) if DEBUG else without_other_parts(self.name, files):
            yield Program(file.stem, seconds_of(file, 120) * SLOW, f"DEVICE={DEVICE} sh /boot/{file.name}")

    def boot(self, programs):
        old = any(re.match(r"(debian_6_12|memory)\b", program.name) for program in programs)
        prelude, options = self.with_guests("7.2", *(["6.12"] if old else []))
        options += ["--file", f"{TOP}/README.md=/README.md", "--file", f"{script('guest', '7.2')}/initrd=/guest/7.2/initrd"]
        self.serve_in_turn(programs, prelude, options)

    def judge(self, item, ended, log):
        if ended.status == "4":
            reason = re.search(r"^skip: (.*)", log.read_text(errors="replace"), re.M)
            yield Result("skip", item, reason[1] if reason else "", ended.seconds)
        else:
            yield from super().judge(item, ended, log)


class Machine(Served):
    """The same guest on machines that differ: in the CPU's width of VMIDs, GICv4, SVE, pointer authentication, nested
    virtualization, LPA2, FWB (which the kselftest `caches` is about); in the tables from which the host knows its
    interrupts; and in KVM: on as soon as the server is, while it has a VM, or not at all."""

    parts = ("module", "userspace", "kselftest")
    MACHINES = "cortex-a76 neoverse-n1 neoverse-v1 neoverse-n2 a64fx max max,lpa2=off max,pauth=off acpi nohz_full beside_kvm dax alone".split()

    def part_of(self, machine):
        """Two with each commit, beside those from which most can be learned."""
        return None if machine in ("max", "beside_kvm") else self.MACHINES.index(machine) % PARTS + 1

    def programs(self):
        for machine in without_other_parts(self.name, self.MACHINES, self.part_of, str):
            if machine == "dax":
                if not DEBUG:
                    case = "grep -q '^ok [0-9]* file_on_dax$'"
                    kinds = f"LOFT_DAX=/mnt /kselftest/memory_kinds {DEVICE} | tee /tmp/kinds"
                    yield Program(machine, 120, f"sh /kselftest/dax.sh /mnt && {kinds} && {case} /tmp/kinds")
            elif machine == "beside_kvm":
                guests = f"DEVICE={DEVICE} sh /boot/debian_7_2.sh && DEVICE=/dev/kvm sh /boot/debian_7_2.sh"
                yield Program(machine, 360 * SLOW, f"{guests} && /kselftest/beside_kvm {DEVICE} && /kselftest/migrate_kvm {DEVICE}")
            elif machine == "alone":
                yield Program(machine, 180 * SLOW, f"[ ! -e /dev/kvm ] && DEVICE={DEVICE} sh /boot/debian_7_2.sh && /kselftest/tracing {DEVICE}")
            # The debug kernels have no ACPI.
            elif not DEBUG or machine != "acpi":
                on = "taskset 0xe " if machine == "nohz_full" else ""
                yield Program(machine, 180 * SLOW, f"DEVICE={DEVICE} {on}sh /boot/debian_7_2.sh && /kselftest/caches {DEVICE}")

    def boot(self, programs):
        prelude, options = self.with_guests("7.2")
        options += ["--file", f"{OUT}/kselftest/caches=/kselftest/caches"]
        nvdimm = ["-machine", "nvdimm=on", "-object", "memory-backend-ram,id=dax,size=128M", "-device", "nvdimm,memdev=dax"]
        for program in programs:
            more = {
                # Guests on CPUs without a tick, which RCU does not watch while they are in one.
                "nohz_full": ["--cpu", "neoverse-n1", "--append", "nohz_full=1-3 rcu_nocbs=1-3"],
                "acpi": ["--acpi"],
                # perf asks loft then what a guest does.
                "alone": ["--file", f"{OUT}/kselftest/tracing=/kselftest/tracing"],
                # KVM is on only while it has a VM, and offers guests that are hypervisors.
                "beside_kvm": ["--kvm", "--cpu", "max,lpa2=off", "--append", "kvm.enable_virt_at_load=0 kvm-arm.mode=nested"]
                + [word for name in ("beside_kvm", "migrate_kvm") for word in ("--file", f"{OUT}/kselftest/{name}=/kselftest/{name}")],
                # Only ACPI's tables describe an NVDIMM here.
                "dax": ["--acpi", "--mem", "2G,slots=1,maxmem=3G", "--module", "nfit", "--module", "nd_pmem", "--module", "ext4"]
                + [word for argument in nvdimm for word in ("--qemu-arg", argument)]
                + ["--file", f"{OUT}/kselftest/memory_kinds=/kselftest/memory_kinds"]
                + ["--file", f"{TOP}/tests/kselftest/dax.sh=/kselftest/dax.sh"],
            }.get(program.name, ["--cpu", program.name])
            first = "[ -e /sys/firmware/acpi/tables/GTDT ] && " if program.name == "acpi" else ""
            mine = [word for word in options if word != "--kvm" or program.name != "alone"]
            self.serve([program], first + prelude, [*mine, *more])


class Parity(Served):
    """What a guest finds on loft and on KVM, on the same machine: what it has on KVM alone is in tests/parity, with the reason."""

    parts = ("module", "userspace", "kselftest")
    # Program: what it runs on a hypervisor's device, and what of it is compared.
    COMPARED = {
        "cpu_features": ("DEVICE={} sh /parity/cpu_features.sh", r"CPU features: detected: (.*)"),
        "id_registers": ("/kselftest/id_registers {}", r"^# (S3_0_C0_C[1-7]_\d \d+:\d+ \w+)$"),
    }

    def programs(self):
        if HYP != "kvm" and not DEBUG:
            yield from self.on("/dev/loft", self.COMPARED)

    def on(self, device, names):
        return [Program(name, 180, self.COMPARED[name][0].format(device)) for name in names]

    def boot(self, programs):
        prelude, options = self.with_guests("7.2")
        options += ["--file", f"{TOP}/tests/parity=/parity", "--file", f"{OUT}/kselftest/id_registers=/kselftest/id_registers"]
        self.serve(programs, prelude, options)
        names = [program.name for program in programs]
        prelude = "[ -e /dev/kvm ] && . /boot/prepare"
        self.reference = Batch(LOGS / self.name / "kvm", self.on("/dev/kvm", names), prelude, [*options, "--kvm"])
        self.reference.start()

    def judge(self, item, ended, log):
        other = self.reference.log_of(ended.name)
        self.reference.thread.join()
        if ended.status != "0":
            yield from super().judge(item, ended, log)
        elif fault := self.differences(ended.name, *(self.found(ended.name, file) for file in (log, other))):
            yield Result("fail", item, f"{fault}; see {shown(log)} and {shown(other)}", ended.seconds)
        else:
            yield Result("pass", item, "", ended.seconds)

    def found(self, name, log):
        """What a program has told."""
        return {match.strip() for match in re.findall(self.COMPARED[name][1], log.read_text(errors="replace") if log.exists() else "", re.M)}

    def differences(self, name, loft, kvm):
        """What is wrong with what KVM has and loft has not."""
        if not kvm or not loft:
            return "nothing was found on " + ("KVM" if not kvm else "loft")
        rows = (TOP / "tests/parity" / name).read_text().splitlines()
        reasons = {fact.strip(): why.strip() for fact, _, why in (row.partition("|") for row in rows if row and row[0] != "#")}
        if missing := sorted(kvm - loft - set(filter(reasons.get, reasons))):
            return f"a guest of KVM's has more: {', '.join(missing)}"
        # Other CPUs have less.
        if CPU == "max" and (stale := sorted(set(reasons) - (kvm - loft))):
            return f"this is not so any more: {', '.join(stale)}"
        return None


class Vmm(Served):
    """VMMs of others, unmodified: programs in tests/vmm. One whose head says `# kvm: CPU` has a server of its own, with that CPU and
    with KVM on, where /dev/kvm is KVM's."""

    parts = ("module", "userspace")
    servers = 1 if DEBUG else 2
    # They open /dev/kvm, which is loft's where KVM is not on.
    kvm = HYP == "kvm"

    def programs(self):
        for file in without_other_parts(self.name, sorted((TOP / "tests/vmm").glob("*.sh"))):
            if not self.cpu_beside_kvm(file.stem):
                yield Program(file.stem, seconds_of(file, 300) * SLOW, f"sh /vmm/{file.name}")
            elif HYP != "kvm":
                yield Program(file.stem, seconds_of(file, 300) * SLOW * (5 if LONG else 1), f"LOFT_LONG={LONG} sh /vmm/{file.name}")

    def cpu_beside_kvm(self, name):
        """The CPU of a program's own server, if it is to have one."""
        match = re.search(r"^# kvm: (\S+)", (TOP / "tests/vmm" / f"{name}.sh").read_text(), re.M)
        return match and match[1]

    def boot(self, programs):
        prelude, options = self.with_guests("6.12", "7.2")
        image = script("vmm-image").replace(str(CACHE), "/cache", 1)
        options += ["--file", f"{script('guest', '7.2')}/initrd=/guest/7.2/initrd", "--file", f"{TOP}/tests/vmm=/vmm"]
        options += ["--module", "virtio_blk", "--module", "ext4"]
        options += ["--qemu-arg", "-drive", "--qemu-arg", f"file={image},format=raw,if=virtio,readonly=on"]
        own = [program for program in programs if self.cpu_beside_kvm(program.name)]
        if others := [program for program in programs if program not in own]:
            self.serve_in_turn(others, prelude.replace("loft.ko", "loft.ko kvm_node=1"), options)
        for program in own:
            self.serve([program], prelude, [*options, "--kvm", "--cpu", self.cpu_beside_kvm(program.name)])


class Packages(Served):
    """Debian's packages, which `make deb` makes, in a Debian: tests/packages. DKMS has built the module before, with the package's commands."""

    parts = ()

    def programs(self):
        if HYP != "kvm" and not DEBUG:
            for file in without_other_parts(self.name, [TOP / "tests/packages/debian.sh"]):
                yield Program(file.stem, seconds_of(file, 300), "sh /packages/server.sh")

    def prepare(self, items):
        log = LOGS / f"{self.name}.build.log"
        with open(log, "w") as out:
            if subprocess.call([TOP / "scripts/deb-module", KERNEL], stdout=out, stderr=subprocess.STDOUT):
                say("\n".join(log.read_text(errors="replace").splitlines()[-20:]))
                return [Result("fail", f"{self.name}/build", f"see {shown(log)}")]
        return super().prepare(items)

    def boot(self, programs):
        files = script("guest", "7.2")
        # What it looks at is the same on every CPU: one that is fast to emulate.
        cpu = os.environ.get("CPU") or "neoverse-n1"
        options = ["--cpu", cpu, "--mem", "3G", "--module", "virtio_blk", "--module", "ext4"]
        for file in [*(TOP / "tests/packages").iterdir(), *(OUT / "deb").glob("*.deb"), OUT / "deb/loft.ko"]:
            options += ["--file", f"{file}=/packages/{file.name}"]
        for name in ("Image", "modules", "disk.img"):
            options += ["--file", f"{files}/{name}=/guest/7.2/{name}"]
        image = script("deb-image").replace(str(CACHE), "/cache", 1)
        options += ["--qemu-arg", "-drive", "--qemu-arg", f"file={image},format=raw,if=virtio,snapshot=on"]
        self.serve(programs, ":", options)


class KvmSelftests(Served):
    """Linux's own KVM selftests, unchanged, each in a mount namespace in which /dev/kvm is /dev/loft. They take long and are
    in no hurry: they begin before other servers, and run beside those."""

    def rows(self):
        """(name, seconds, words, arguments) of those that have to pass."""
        for name, *words in table(TOP / "tests/kvm-selftests.list"):
            words, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
            seconds = next((int(word) for word in words if word.isdigit()), int(os.environ.get("LIMIT") or 180))
            yield name, seconds, words, " ".join(arguments)

    def command(self, name, arguments):
        """What the server runs for a test."""
        mount = "mount --bind /dev/loft /dev/kvm && " if HYP != "kvm" else ""
        return f"unshare -m sh -c '{mount}exec /selftests/{' '.join([name, *arguments.split()])}'"

    def programs(self):
        rows = without_other_parts(self.name, list(self.rows()), self.part_of, lambda row: row[0])
        return self.in_order([Program(name, seconds, self.command(name, arguments)) for name, seconds, _, arguments in rows])

    def part_of(self, row):
        """The part that a test is in, if it takes long: its line says `part:N`."""
        return next((int(word.removeprefix("part:")) for word in row[2] if word.startswith("part:")), None)

    def in_order(self, programs):
        """Those first that are in the first server."""
        counted = self.counted()
        return sorted(programs, key=lambda program: program.name in counted)

    def counted(self):
        """Those that measure real time: their server goes by instructions."""
        return {name for name, _, words, _ in self.rows() if "icount" in words}

    def is_left_out(self, name):
        """Whether a test waits for LONG=1, or for being named."""
        words = next(words for row, _, words, _ in self.rows() if row == name)
        return "long" in words and not (LONG or TEST)

    def boot(self, programs):
        tests = script("selftests")
        # With LPA2 the emulator takes three times as long.
        options = ["--cpu", os.environ.get("CPU") or "max,lpa2=off", "--file", f"{tests}=/selftests"]
        prelude = "[ -e /dev/kvm ]"
        if self.kvm:
            options += ["--kvm"]
        if HYP != "kvm":
            options += ["--file", f"{OUT}/{KERNEL}/loft.ko=/loft.ko"]
            prelude = "insmod /loft.ko && : >>/dev/kvm"
        # Eight ns to an instruction are slow enough for the emulator to keep up, and fast enough for what has to happen
        # within 10 ms.
        counted = self.counted()
        programs = [program for program in programs if not self.is_left_out(program.name)]
        self.order = []
        for group, more in ((False, []), (True, ["--icount=3"])):
            if chosen := [program for program in programs if (program.name in counted) == group]:
                self.order.append(self.serve(chosen, prelude, options + more))

    def begin(self):
        """Has one server booted after the other: a place is left to others."""
        for batch, before in zip(self.order, [None, *self.order]):
            batch.start(before)

    def run(self, item):
        if self.is_left_out(self.list[item].name):
            yield Result("skip", item, f"it takes minutes: LONG=1 or TEST={self.list[item].name}")
        else:
            yield from super().run(item)


SUITES = {
    "model": lambda name, selection: Cargo(name, selection, "tests/model"),
    "userspace": lambda name, selection: Cargo(name, selection, "userspace"),
    "scripts": Scripts,
    "server": Server,
    "kselftest": Kselftest,
    "cost": Cost,
    "run": Run,
    "bench": Bench,
    "boot": Boot,
    "machine": Machine,
    "parity": Parity,
    "vmm": Vmm,
    "packages": Packages,
    "kvm-selftests": KvmSelftests,
}
