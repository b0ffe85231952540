# SPDX-License-Identifier: GPL-2.0
# The main job: a stock Debian kernel with two CPUs, a disk and a network card answers from inside.
# seconds: 120
. /boot/lib
guest -c 2 -m 512M -n tap=tap0 -- sh -c 'uname -r; nproc; cat /proc/interrupts; ls /sys/class/net; dmesg | tail -3'
expect_code 0
says "$said" '^7\.2\..*-arm64$'
says "$said" '^2$'
says "$said" 'CPU0 +CPU1'
# Both CPUs are woken by their own timer.
echo "$said" | awk '/arch_timer/ { ok = $2 > 0 && $3 > 0 } END { exit !ok }' || fail "a CPU had no timer interrupt: $said"
says "$said" '^eth0$'
