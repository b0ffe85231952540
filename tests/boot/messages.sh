# SPDX-License-Identifier: GPL-2.0
# A mistake is named with the file, the reason and the remedy, and nothing is started.
# seconds: 90
. /boot/lib
# wrong PATTERN ARGUMENT...
wrong() {
    pattern=$1
    shift
    code=0
    timeout 20 loft run "$@" >"$dir/out" 2>"$dir/err" </dev/null || code=$?
    messages=$(cat "$dir/err")
    [ "$code" = 125 ] || fail "exit code $code, not 125, for: $*"
    says "$messages" "$pattern"
}
wrong 'nothere.*(No such file|does not exist)' -k "$dir/nothere" --device "$DEVICE"
echo "not a kernel" >"$dir/text"
wrong "text.*kernel" -k "$dir/text" --device "$DEVICE"
wrong 'nodevice' -k /guest/7.2/Image --device /dev/nodevice
wrong 'tap9' -k /guest/7.2/Image -d "$disk" -n tap=tap9 --device "$DEVICE"
(
    ulimit -n 500
    wrong 'open files' -k /guest/7.2/Image -d "$disk" -c 512 --device "$DEVICE"
) || exit 1
wrong 'nodisk\.img' -k /guest/7.2/Image -d "$dir/nodisk.img" --device "$DEVICE"
wrong 'memory' -k /guest/7.2/Image -m 900G --device "$DEVICE"
