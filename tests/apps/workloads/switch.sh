# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Nothing of it needs the hypervisor.
work="5,000 bytes to another process and back through pipes, both on one CPU"
prepare() { inside /tmp/lat switch 100; }
run() { inside /tmp/lat switch 5000; }
