# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# One byte to the server and one back, one at a time: each wakes the other side.
work="netperf TCP_RR: 1,000 transactions"
prepare() { outside netserver -L "$outer" && inside netperf -H "$outer" -t TCP_RR -l -100; }
run() { inside netperf -H "$outer" -t TCP_RR -l -1000; }
finish() { outside pkill netserver; }
