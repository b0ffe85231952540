# SPDX-License-Identifier: GPL-2.0
# Power-off, reboot and crash of the guest are three different endings.
# seconds: 600
# part: 5
. /boot/lib
guest -- sh -c 'poweroff -f; sleep 60'
expect_code 103
guest -- sh -c 'hostname; echo kept >/root/file; reboot; sleep 60'
expect_code 100
[ "$said" = guest ] || fail "the guest's name is '$said'"
guest -- sh -c 'cat /root/file; poweroff'
expect_code 103
[ "$said" = kept ] || fail "what was written before the reboot is '$said'"
# As systemd's reboot does it where the first process is not systemd.
guest -- sh -c '{ printf "\151\031\011\003\001\0\0\0006\0\0\0"; head -c 372 /dev/zero; } | dd bs=384 iflag=fullblock of=/run/initctl 2>/dev/null'
expect_code 100
guest -- sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
expect_code 101
