# SPDX-License-Identifier: GPL-2.0
"""Runs many programs, one after the other, in an emulated server (scripts/server).

A program that takes the server down, or hangs it, costs only itself: the server is booted again for those that are left.
What a program printed is kept in LOGS/NAME.log (with . for /). Kernel messages that tell of a bug, or that are above `notice`
and loft's, follow there as lines `@@dmesg ...`; on a debug kernel (DEBUG is set) all messages of that time, and the server is
booted again, since lockdep reports only once.
"""

import os
import pathlib
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from jobs import Job

TOP = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(
    os.environ.get("LOFT_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path(os.environ.get("HOME") or "/root") / ".cache") / "loft"
)

# What the server runs.
RUN = r"""
. /batch/settings
# <0> to <4> is what lies above notice.
bug='^<[0-4]>.*loft|Oops|BUG|WARNING: |Call trace|lockup|rcu.*stall|blocked for more|refcount_t|UBSAN:|kmemleak: [1-9]|ODEBUG'
sh /batch/prelude 2>&1 || { echo "@@prelude $?"; exit 99; }
# messages: takes those there are. That a module from outside the kernel's tree was loaded is none.
messages() { dmesg -c -r | grep -v 'taints kernel' >/tmp/dmesg; }
messages
# Before the first program: a debug kernel may have something to say about booting and loading.
if [ -n "$debug" ] && grep -qE "$bug" /tmp/dmesg; then
    sed 's/^/@@dmesg /' /tmp/dmesg
    echo "@@prelude complaint"
    exit 99
fi
tab=$(printf '\t')
while IFS=$tab read -r name seconds command; do
    echo "@@begin $seconds $name"
    started=$(cut -d. -f1 /proc/uptime)
    timeout -s KILL "$seconds" sh -c "$command" 2>&1 </dev/null
    code=$?
    [ $code -ne 137 ] || [ $(($(cut -d. -f1 /proc/uptime) - started)) -lt "$seconds" ] || code=timeout
    echo
    messages
    found=$(grep -E "$bug" /tmp/dmesg)
    if [ -n "$debug" ] && [ -n "$found" ]; then sed 's/^/@@dmesg /' /tmp/dmesg; else [ -z "$found" ] || echo "$found" | sed 's/^/@@dmesg /'; fi
    echo "@@end $code"
    if [ -n "$debug" ] && [ -n "$found" ]; then
        echo @@again
        exit 0
    fi
done </batch/list
"""


@dataclass
class Program:
    """`command` is a line of shell; more than `seconds` of it are a hang."""

    name: str
    seconds: int
    command: str


@dataclass
class Ended:
    """How a program ended: `status` is its exit code, `timeout`, or `crash` (the server died or hung)."""

    name: str
    status: str
    seconds: float = 0.0
    # How long each line took that begins with `ok` or `not ok`.
    steps: list = field(default_factory=list)


class Batch(Job):
    """The programs in their server. It tells an `Ended` as each ends; one named `(start)` says that the server or the prelude failed."""

    def __init__(self, logs, programs, prelude, options):
        super().__init__()
        self.logs, self.programs, self.prelude, self.options = pathlib.Path(logs), list(programs), prelude, list(options)
        self.server = None

    def stop(self):
        super().stop()
        if self.server and self.server.poll() is None:
            self.server.terminate()

    def log_of(self, name):
        return self.logs / (name.replace("/", ".") + ".log")

    def work(self):
        self.logs.mkdir(parents=True, exist_ok=True)
        (CACHE / "run").mkdir(parents=True, exist_ok=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix="batch.", dir=CACHE / "run"))
        try:
            left = self.programs
            lost = 0
            while left and not self.stopped:
                left, died = self._serve(work, left)
                # It died between two programs, or never came up: once is bad luck, twice is a result.
                lost += died
                if lost == 2:
                    self._story(work, self.log_of("(start)"))
                    sys.stderr.write(self.log_of("(start)").read_text()[-4000:])
                    self.tell(Ended("(start)", "crash"))
                    break
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _story(self, work, log):
        """The server's end is part of the story."""
        with open(log, "a") as out:
            out.write((work / "server.err").read_text(errors="replace"))
            if (work / "console").exists():
                out.write("--- the server's log\n")
                out.writelines((work / "console").read_text(errors="replace").splitlines(keepends=True)[-100:])

    def _serve(self, work, programs):
        """Runs programs in one server: those that are left, and whether it died between two of them."""
        (work / "list").write_text("".join(f"{p.name}\t{p.seconds}\t{p.command}\n" for p in programs))
        (work / "prelude").write_text(self.prelude + "\n")
        (work / "run").write_text(RUN)
        (work / "settings").write_text(f"debug={shlex.quote(os.environ.get('DEBUG', ''))}\n")
        # Generous: the point of this limit is that nothing runs for ever, each program has its own.
        total = sum(p.seconds + 5 for p in programs) + 60
        files = [word for name in ("list", "prelude", "run", "settings") for word in ("--file", f"{work / name}=/batch/{name}")]
        command = [TOP / "scripts/server", *self.options, "--timeout", str(total), "--log", work / "console", *files]
        with open(work / "server.err", "wb") as errors:
            # In a session of its own: an interrupt from the terminal is handed on by stop_all, once.
            self.server = subprocess.Popen(
                [*map(str, command), "--", "sh /batch/run"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        left = list(programs)
        now = log = None
        again = prelude_failed = False
        said = []
        for line in self._lines(lambda: now.seconds + 30 if now else int(os.environ.get("BOOT_LIMIT", 120))):
            word, _, rest = line.partition(" ")
            if word == "@@begin":
                now = next(p for p in left if p.name == rest.partition(" ")[2])
                log = open(self.log_of(now.name), "w")
                ended, started = Ended(now.name, "crash"), time.monotonic()
                step = started
            elif word == "@@end":
                ended.status, ended.seconds = rest, time.monotonic() - started
                log.close()
                self.tell(ended)
                left.remove(now)
                now = None
            elif word == "@@again":
                again = True
            elif word == "@@prelude":
                prelude_failed = True
                sys.stderr.write("".join(said))
                self.log_of("(start)").write_text("".join(said))
                self.tell(Ended("(start)", rest))
            elif now:
                log.write(line + "\n")
                if word in ("ok", "not"):
                    ended.steps.append(time.monotonic() - step)
                    step = time.monotonic()
            else:
                said.append(line + "\n")
        if self.server.poll() is None:
            self.server.terminate()
        self.server.wait()
        if self.stopped or prelude_failed:
            return [], False
        if now:
            log.close()
            self._story(work, self.log_of(now.name))
            ended.seconds = time.monotonic() - started
            self.tell(ended)
            left.remove(now)
            return left, False
        return left, bool(left) and not again

    def _lines(self, limit):
        """The server's lines, until its end or until none has come for `limit()` seconds."""
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.server.stdout, selectors.EVENT_READ)
            silent = 0
            while silent < limit() and not self.stopped:
                if not selector.select(1):
                    silent += 1
                    continue
                silent = 0
                data = os.read(self.server.stdout.fileno(), 1 << 16)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")


def main():
    """LOGS LIST PRELUDE [server option...]: prints NAME<tab>STATUS as each program of LIST ends, a file with lines
    NAME<tab>SECONDS<tab>COMMAND."""
    logs, programs, prelude, *options = sys.argv[1:]
    programs = [line.split("\t", 2) for line in pathlib.Path(programs).read_text().splitlines()]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    batch = Batch(logs, [Program(name, int(seconds), command) for name, seconds, command in programs], prelude, options)
    try:
        for ended in batch.results():
            print(ended.name, ended.status, sep="\t", flush=True)
    finally:
        Batch.stop_all()


if __name__ == "__main__":
    main()
