# SPDX-License-Identifier: GPL-2.0
# Power-off, reboot and crash of the guest are three different endings.
# seconds: 300
. /boot/lib
guest -- sh -c 'poweroff -f; sleep 60'
expect_code 103
guest -- sh -c 'reboot -f; sleep 60'
expect_code 100
guest -- sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
expect_code 101
