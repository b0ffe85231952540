# SPDX-License-Identifier: GPL-2.0
"""Which tests are wanted: those whose SUITE/NAME holds TEST, a shell pattern where it has a * in it; with RERUN=1 those that
failed the last time."""

import fnmatch
import os
import re

SUITES = ("model", "userspace", "scripts", "server", "run", "bench", "kselftest", "cost", "boot", "machine", "parity", "vmm", "packages", "kvm-selftests")


class Selection:
    """What is asked for by name. An empty TEST is everything."""

    def __init__(self, last_failed):
        pattern = os.environ.get("TEST", "")
        self.patterns = [pattern if "*" in pattern else f"*{pattern}*"]
        if os.environ.get("RERUN"):
            failed = last_failed.read_text().split("\n") if last_failed.exists() else []
            self.patterns = [re.sub(r"([\[*?])", r"[\1]", name) for name in failed if name]
        self.everything = self.patterns == ["**"]

    def wants(self, name):
        """Whether the test SUITE/NAME is wanted."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)

    def wants_suite(self, suite):
        """Whether anything of a suite may be. Only a pattern that begins with a suite tells."""
        return any(suite_of(pattern) in (None, suite) for pattern in self.patterns)

    def wants_program(self, name):
        """Whether a program SUITE/NAME is to be run: a pattern may name a case of it, whose name nobody knows before."""
        return any(
            fnmatch.fnmatchcase(f"{name}/", pattern)
            or suite_of(pattern) is None
            or pattern.lstrip("*").startswith(f"{name}/")
            or pattern.strip("*") == name
            for pattern in self.patterns
        )


def suite_of(pattern):
    """The suite that a pattern begins with, or nothing."""
    match = re.match(r"\*?([a-z][\w-]*)/", pattern)
    return match[1] if match and match[1] in SUITES else None
