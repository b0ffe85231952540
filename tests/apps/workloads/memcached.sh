# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
work="memcached: 4 connections of memcslap, 250 gets each, from the server"
load() { outside memcslap --servers="$inner:11211" --concurrency=4 --execute-number="$1" --initial-load=500 --test=get --flush; }
prepare() { inside "memcached -d -u nobody -m 64 -t 2 && sleep 1" && load 10; }
run() { load 250; }
finish() { inside pkill memcached; }
