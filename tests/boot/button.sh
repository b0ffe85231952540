# SPDX-License-Identifier: GPL-2.0
# A guest in which loft has no agent is asked to switch itself off by its power button.
# seconds: 200
# part: 2
. /boot/lib
export LOFT_RUNTIME_DIR="$dir/run"
# Switches off when the key of that code has been pressed, with struct input_event's type 1, code 116 and value 1.
mkdir "$dir/root"
cat >"$dir/root/button" <<'END'
#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
modprobe evdev
modprobe gpio_keys
grep -q . /sys/class/input/event0/device/name && echo "waits for $(cat /sys/class/input/event0/device/name)"
event=$(dd if=/dev/input/event0 bs=24 count=1 2>/dev/null | tail -c 8 | od -An -tx1)
echo "event$event"
[ "$event" != " 01 00 74 00 01 00 00 00" ] || poweroff -f
sleep 1000
END
chmod 755 "$dir/root/button"
{ cat /guest/7.2/initrd; (cd "$dir/root" && echo button | cpio -o -H newc 2>/dev/null); } >"$dir/initrd"
loft run -k /guest/7.2/Image -i "$dir/initrd" -m 256M -p 'rdinit=/button' --device "$DEVICE" --name pressed -n none >"$dir/out" 2>"$dir/err" </dev/null &
pid=$!
i=0
until grep -q 'waits for' "$dir/out"; do
    sleep 0.2
    i=$((i + 1))
    [ $i -lt 300 ] || { cat "$dir/out" "$dir/err"; fail "there is no button"; }
done
sleep 1
loft reboot pressed 2>"$dir/said" && fail "it can be rebooted"
says "$(cat "$dir/said")" 'no agent'
loft stop -t 30 pressed || { cat "$dir/out"; fail "it does not stop"; }
code=0
wait $pid || code=$?
expect_code 0
