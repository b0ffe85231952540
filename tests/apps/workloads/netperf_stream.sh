# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
work="netperf TCP_STREAM: 16 MiB to the server"
prepare() { outside netserver -L "$outer" && inside netperf -H "$outer" -t TCP_STREAM -l -1000000; }
run() { inside netperf -H "$outer" -t TCP_STREAM -l -16777216; }
finish() { outside pkill netserver; }
