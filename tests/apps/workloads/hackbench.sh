# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Processes that send each other messages through sockets: the scheduler, and interrupts between CPUs.
work="hackbench: 2 groups of 20 + 20 processes, 25 messages of 100 bytes from each to each of its group"
rounds=5
prepare() { inside hackbench -g 2 -l 10; }
run() { inside hackbench -g 2 -l 25; }
