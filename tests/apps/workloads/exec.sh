# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
work="100 times fork, exec of a static program, exit and wait"
prepare() { inside /tmp/lat exec 20; }
run() { inside /tmp/lat exec 100; }
