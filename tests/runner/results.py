# SPDX-License-Identifier: GPL-2.0
"""What programs print, read as results of tests."""

import re
from dataclasses import dataclass
from typing import Optional

PLAN = re.compile(r"1\.\.(\d+)")
CASE = re.compile(r"(not )?ok \d+ (?:- )?(.*)")
CRATE = re.compile(r"\s*(?:Running .*\(.*/(.*)-\w+\)|Doc-tests (\S+))$")
CARGO = re.compile(r"test (.*) \.\.\. (ok|ignored|FAILED)(?:, (.*))?")


@dataclass
class Result:
    """`outcome` is pass, fail or skip; `seconds` is not there where nobody knows."""

    outcome: str
    name: str
    reason: str = ""
    seconds: Optional[float] = None


def ktap(lines, prefix, log, steps=()):
    """The results in a KTAP report, each case named PREFIX/CASE. A plan that was not kept (the program ended early)
    is a failure of its own. `steps` are the seconds that the cases took, `log` is where a failure is told; what the case
    said first, which is what did not hold, is told with it."""
    plan, found, steps, said = None, [], list(steps), ""
    for line in lines:
        if line.startswith("# "):
            said = said or f"{line[2:160]}; "
        elif match := PLAN.match(line):
            plan = int(match[1])
        elif match := CASE.match(line):
            name, _, directive = match[2].partition(" #")
            seconds = steps.pop(0) if steps else None
            if directive.strip().startswith("SKIP"):
                found.append(Result("skip", f"{prefix}/{name}", directive.strip()[4:].strip(), seconds))
            elif match[1]:
                found.append(Result("fail", f"{prefix}/{name}", f"{said}see {log}", seconds))
            else:
                found.append(Result("pass", f"{prefix}/{name}", "", seconds))
            said = ""
    if plan is not None and plan != len(found):
        found.append(Result("fail", f"{prefix}/plan", f"{len(found)} of {plan} cases were run"))
    return found


def cargo(lines, suite, log):
    """Yields the results in what `cargo test` prints, each named SUITE/CRATE::TEST."""
    crate = ""
    for line in lines:
        if match := CRATE.match(line):
            crate = f"{match[1] or 'doc-' + match[2]}::"
        elif match := CARGO.match(line):
            name = f"{suite}/{crate}{match[1].replace(' - should panic', '').replace(' ', '')}"
            outcome = {"ok": "pass", "ignored": "skip", "FAILED": "fail"}[match[2]]
            yield Result(outcome, name, {"pass": "", "skip": match[3] or "", "fail": f"see {log}"}[outcome])


def failures_said(text, most=60):
    """The last lines of what each failed test of `cargo test` said: of a random test that is its input, which may not
    come again."""
    said = []
    for part in re.findall(r"^---- .* ----\n(?s:.*?)(?=^---- |^failures:$|\Z)", text, re.M):
        head, *rest = part.splitlines()
        said += [head, *rest[-most:]]
    return "\n".join(said)
