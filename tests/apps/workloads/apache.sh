# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
work="Apache: 200 requests of 8 KiB by ab, 8 at a time, from the server"
load() { outside ab -q -n "$1" -c 8 "http://$inner/index.html"; }
prepare() { inside "apache2 -f /etc/httpd.conf && sleep 1" && load 16; }
run() { load 200; }
finish() { inside pkill apache2; }
