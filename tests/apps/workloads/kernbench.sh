# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Little of it is the kernel's: processes, files, and much that is computed.
work="three files of Linux's lib/ compiled with make -j2"
rounds=1
compile() { inside make -s -B -j2 -C /srv/kernel "$@"; }
prepare() { compile /tmp/ctype.o; }
run() { compile; }
