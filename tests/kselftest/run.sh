#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# run.sh [DEVICE [NAME...]]: runs the tests in `list` (or those named), each with its time limit, from the folder this
# script is in. KTAP on standard output, at the end `N passed, N failed, N skipped`, where N counts cases. Exits 1 if any
# failed. Needs no more than busybox; LOFT_SLOW=N multiplies the time limits on a slow machine.
here=$(cd "$(dirname "$0")" && pwd)
device=${1:-${LOFT_DEVICE:-/dev/loft}}
[ $# -gt 0 ] && shift
out=$(mktemp)
trap 'rm -f "$out"' EXIT
passed=0 failed=0 skipped=0 number=0
wanted=$*
sed 's/#.*//' "$here/list" >"$out.list"
echo "KTAP version 1"
while read -r name seconds; do
    [ -n "$name" ] || continue
    case " ${wanted:-$name} " in *" $name "*) ;; *) continue ;; esac
    number=$((number + 1))
    started=$(cut -d. -f1 /proc/uptime)
    timeout -s KILL $((seconds * ${LOFT_SLOW:-1})) "$here/$name" "$device" >"$out" 2>&1 </dev/null
    status=$?
    took=$(($(cut -d. -f1 /proc/uptime) - started))
    sed 's/^/    /' "$out"
    planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$out" | head -n 1)
    bad=$(grep -c '^not ok' "$out")
    none=$(grep -c '^ok .*# SKIP' "$out")
    good=$(($(grep -c '^ok' "$out") - none))
    # Cases that never came to an end count as failed, and so does a program that said nothing.
    lost=$((${planned:-1} - good - none - bad))
    [ "$lost" -gt 0 ] || lost=0
    case $status in
    0) echo "ok $number $name # $took s" ;;
    4) echo "ok $number $name # SKIP" ;;
    137 | 143) echo "not ok $number $name # no end after $took s" ;;
    *) echo "not ok $number $name # status $status, $took s" ;;
    esac
    if [ "$status" -ne 0 ] && [ "$status" -ne 4 ] && [ $((bad + lost)) -eq 0 ]; then lost=1; fi
    passed=$((passed + good)) skipped=$((skipped + none)) failed=$((failed + bad + lost))
done <"$out.list"
rm -f "$out.list"
echo "1..$number"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$number" -gt 0 ]
