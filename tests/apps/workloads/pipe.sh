# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
work="32 MiB from one process to another through a pipe, 64 KiB at a time"
prepare() { inside /tmp/lat pipe 16; }
run() { inside /tmp/lat pipe 512; }
