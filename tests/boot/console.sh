# SPDX-License-Identifier: GPL-2.0
# A guest without a command: its console is ready without the kernel's log, which is all there when the kernel dies. What it prints
# is in a file as well, of limited size.
# seconds: 400
# part: 6
. /boot/lib
mkfifo "$dir/in"
# boots ARGUMENT...: until the guest's shell is there, which then reads what is written to descriptor 5.
boots() {
    loft run -k /guest/7.2/Image --modules /guest/7.2/modules -d "$disk" --device "$DEVICE" "$@" <"$dir/in" >"$dir/out" 2>"$dir/err" &
    pid=$!
    exec 5>"$dir/in"
    i=0
    until grep -q 'This is Linux' "$dir/out"; do
        sleep 0.2
        i=$((i + 1))
        [ $i -lt 600 ] || { cat "$dir/out" "$dir/err"; fail "there is no shell"; }
    done
}
# ends CODE: after what was written the guest ends so.
ends() {
    exec 5>&-
    code=0
    wait $pid || code=$?
    expect_code "$1"
}
boots --console-log "$dir/console.log"
! grep -q 'Booting Linux' "$dir/out" || fail "the kernel's log is shown"
echo 'echo c >/proc/sysrq-trigger' >&5
ends 101
grep -q 'sysrq: Trigger a crash' "$dir/out" || fail "there is no reason"
grep -q 'Booting Linux' "$dir/out" || fail "there is no log"

# Lines end there as they do on the console.
cmp "$dir/out" "$dir/console.log" || fail "the file has not what was printed"

boots -v --console-log "$dir/small.log,limit=8K"
grep -q 'Booting Linux' "$dir/out" || fail "the kernel's log is not shown"
echo exit >&5
ends 0
sizes=$(stat -c %s "$dir/small.log.1" "$dir/small.log")
# shellcheck disable=SC2086 # two numbers
set -- $sizes
if [ "$1" != 8192 ] || [ "$2" -gt 8192 ]; then fail "the files have $1 and $2 bytes"; fi
cat "$dir/small.log.1" "$dir/small.log" >"$dir/log"
tail -c $(($1 + $2)) "$dir/out" | cmp - "$dir/log" || fail "the files have not the end of what was printed"
