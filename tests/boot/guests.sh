# SPDX-License-Identifier: GPL-2.0
# Guests that run in the background, reached by their names.
# seconds: 600
# part: 4
. /boot/lib
export LOFT_RUNTIME_DIR="$dir/run"
# start NAME ARGUMENT...
start() {
    name=$1
    shift
    cp /guest/disk.img "$dir/$name.img"
    started=$(timeout 60 loft run -k /guest/7.2/Image --modules /guest/7.2/modules -m 256M -d "$dir/$name.img" --device "$DEVICE" --name "$name" --detach "$@" 2>"$dir/err" </dev/null) || {
        cat "$dir/err"
        fail "$name is not started"
    }
    [ "$started" = "$name" ] || fail "it says '$started', not '$name'"
}
# inside NAME CMD...: in that guest; what it printed is in $said, its exit code in $code.
inside() {
    name=$1
    shift
    code=0
    timeout 200 loft exec "$name" -- "$@" >"$dir/out" 2>"$dir/err" </dev/null || code=$?
    said=$(cat "$dir/out") messages=$(cat "$dir/err")
}
# runs PATTERN...: a line for each in `loft ps`, and no other.
runs() {
    loft ps >"$dir/ps"
    [ "$(wc -l <"$dir/ps")" = $(($# + 1)) ] || { cat "$dir/ps"; fail "there are not $# guests"; }
    for pattern in "$@"; do says "$(cat "$dir/ps")" "$pattern"; done
}

runs
start one
start two --on-reboot restart
runs '^one +[0-9]+ running +1 +256 MiB' '^two '
[ "$(stat -c %a "$LOFT_RUNTIME_DIR/one.sock" "$LOFT_RUNTIME_DIR")" = "$(printf '600\n700')" ] || fail "others can use the socket"

# A name is taken once.
guest --name one -- true
expect_code 125
says "$messages" 'named one runs already'

# What the hypervisor has counted, the times of the vCPUs' threads, and how both grow.
loft stat one >"$dir/stat" || fail "it has no counters"
for pattern in '^one: process [0-9]+, up [0-9]+:' '^COUNTER +SUM +vcpu-0$' '^exits +[1-9][0-9]* +[1-9]' \
    '^user_time_ms +[0-9]+ +[0-9]+$' '^remote_tlb_flush +[0-9]+$'; do
    says "$(cat "$dir/stat")" "$pattern"
done
says "$(loft stat --json one)" '^\{"name":"one","pid":[0-9]+,"uptime_ms":[0-9]+,"vcpus":\[\{.*"exits":[1-9][0-9]*,.*"user_time_ms":'
says "$(loft stat --json)" '^\[\{"name":"one",.*\},\{"name":"two",.*\}\]$'
said=$(loft stat three 2>&1) && fail "there are counters of no guest"
says "$said" 'no guest named three'
loft top -n 1 -d 2 >"$dir/top" || fail "nothing is shown"
[ "$(wc -l <"$dir/top")" = 5 ] || { cat "$dir/top"; fail "there are not two guests with a vCPU each"; }
for name in NAME one '  vcpu-0' two; do says "$(cat "$dir/top")" "^$name +"; done
says "$(cat "$dir/top")" '^one +[0-9]+\.[0-9] +[0-9]+ +[0-9]+ '

inside one sh -c 'cat /proc/1/comm; echo to-err >&2; exit 7'
expect_code 7
[ "$said" = init ] || fail "the first process is '$said'"
[ "$messages" = to-err ] || fail "the errors are '$messages'"
[ "$(echo through | timeout 60 loft exec one -- cat)" = through ] || fail "the input does not arrive"
inside one /no/such/program
expect_code 127

# What is ended here is ended there.
timeout 3 loft exec one -- sleep 1000 </dev/null
# shellcheck disable=SC2016 # for the guest's shell
inside one sh -c 'i=0; while pidof sleep; do sleep 0.1; i=$((i + 1)); [ $i -lt 100 ] || exit 1; done'
expect_code 0

# Nothing happens in a paused guest.
loft pause one || fail "it cannot be paused"
runs '^one +[0-9]+ paused' '^two '
timeout 2 loft exec one -- true </dev/null && fail "a paused guest runs a command"
loft resume one || fail "it cannot be resumed"
inside one true
expect_code 0

# The console, from its past on, until it has answered.
# shellcheck disable=SC2094
{
    sleep 3
    echo 'echo con"sole"'
    i=0
    until grep -q '^console' "$dir/console" || [ $i -ge 50 ]; do sleep 0.5 && i=$((i + 1)); done
} | timeout 60 loft console one >"$dir/console" 2>&1
says "$(cat "$dir/console")" 'This is Linux'
says "$(cat "$dir/console")" '^console'

# A reboot is a new guest with the same name.
inside two cat /proc/sys/kernel/random/boot_id
expect_code 0
before=$said
loft reboot two || fail "it cannot be rebooted"
i=0
until inside two cat /proc/sys/kernel/random/boot_id && [ "$code" = 0 ] && [ "$said" != "$before" ]; do
    sleep 0.5
    i=$((i + 1))
    [ $i -lt 100 ] || fail "it does not reboot"
done

# Off: one by itself, one at once. What a killed launcher leaves behind is nothing.
loft stop -t 100 one || fail "it does not stop"
runs '^two '
loft pause two
loft stop -t 1 two && fail "a paused guest stops"
loft stop -f -t 1 two || fail "it is not ended"
runs
start three
kill -9 "$(loft ps | awk '$1 == "three" { print $2 }')"
# Its end takes a while, the more memory it has to give back.
i=0
while [ $i -lt 60 ] && loft ps 2>&1 | grep -q three; do sleep 0.5 && i=$((i + 1)); done
runs
[ -z "$(ls "$LOFT_RUNTIME_DIR")" ] || fail "something is left: $(ls "$LOFT_RUNTIME_DIR")"
