# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Each byte wakes an idle CPU: an interrupt between CPUs, and two ends of a WFI.
work="1,000 bytes to another process and back through pipes, each on its own CPU"
prepare() { inside /tmp/lat wake 100; }
run() { inside /tmp/lat wake 1000; }
