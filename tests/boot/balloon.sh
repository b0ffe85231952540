# SPDX-License-Identifier: GPL-2.0
# Memory that a guest does not use is the host's again, by itself and when it is asked for; and it gets back what it needs.
# seconds: 600
# part: 4
. /boot/lib
export LOFT_RUNTIME_DIR="$dir/run"
guest --name soft --balloon --detach
expect_code 0
pid=$(loft ps --json | sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
# The launcher's resident memory, its guest's included, in MiB.
resident() { echo $(($(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status") / 1024)); }
# balloon: what is in it, in MiB.
balloon() { echo $(($(loft ps --json | sed -n 's/.*"balloon":\([0-9]*\).*/\1/p') >> 20)); }
inside() { timeout 100 loft exec soft -- "$@" </dev/null || fail "'$*' fails in the guest"; }
# holds MIB OPERATOR MIB
holds() {
    case $2 in
    below) [ "$1" -lt "$3" ] ;;
    is) [ "$1" = "$3" ] ;;
    esac
}
# becomes WHAT OPERATOR MIB: waits for it.
becomes() {
    i=0
    until holds "$("$1")" "$2" "$3"; do
        [ $i -lt 60 ] || fail "$1 is $($1) MiB, not $2 $3"
        sleep 1
        i=$((i + 1))
    done
    echo "$1 is $($1) MiB"
}

inside sh -c 'mount -t tmpfs none /mnt && dd if=/dev/zero of=/mnt/full bs=1M count=200 2>/dev/null'
full=$(resident)
[ "$full" -gt 200 ] || fail "$full MiB are resident with a file of 200 MiB in memory"
# What is free is reported.
inside rm /mnt/full
becomes resident below $((full - 150))

# More is given when it is asked for, and had again.
loft memory soft 200M || fail "it is not asked"
becomes balloon is 312
inside sh -c 'head -n 2 /proc/meminfo'
loft memory soft 512M
becomes balloon is 0

# What a guest needs it takes, whatever it was asked for.
loft memory soft 200M
becomes balloon is 312
inside sh -c 'mount -o remount,size=400M /mnt && dd if=/dev/zero of=/mnt/full bs=1M count=180 2>/dev/null && sync'
becomes balloon below 312
inside rm /mnt/full

code=0
loft memory soft 1G 2>"$dir/err" || code=$?
messages=$(cat "$dir/err")
expect_code 125
says "$messages" 'can be left 64 MiB to 512 MiB'
loft stop -t 100 soft || fail "it does not stop"

# Huge pages that were set aside.
guest -m 128M --huge -- true
expect_code 125
says "$messages" 'has not 64 huge pages of 2 MiB to spare'
trap 'echo 0 >/proc/sys/vm/nr_hugepages; rm -rf "$dir"' EXIT
echo 70 >/proc/sys/vm/nr_hugepages
free=$(sed -n 's/^HugePages_Free: *//p' /proc/meminfo)
[ "$free" = 70 ] || skip "this machine has only $free huge pages"
guest -m 129M --huge -- true
expect_code 125
says "$messages" 'a multiple of 2M'
(
    guest -m 128M --huge -- cat /proc/uptime
    exit "$code"
) &
i=0
until [ "$(sed -n 's/^HugePages_Rsvd: *//p' /proc/meminfo)" -gt 0 ]; do
    [ $i -lt 100 ] || fail "no huge page is used"
    sleep 0.1
    i=$((i + 1))
done
wait $! || fail "a guest in huge pages does not run"
