# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
work="100 times fork, exec of a static program, exit and wait"
prepare() { inside /apps/bin/lat exec 20; }
run() { inside /apps/bin/lat exec 100; }
