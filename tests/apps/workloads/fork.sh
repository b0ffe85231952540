# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Address spaces: page tables copied and torn down, in the guest's stage 1.
work="100 times fork, a write to a page, exit and wait, of a process with 4 MiB"
prepare() { inside /tmp/lat fork 20; }
run() { inside /tmp/lat fork 100; }
